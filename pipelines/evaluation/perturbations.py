"""Captions made wrong, or written differently, by simple rules: what a model's behaviour is tested with."""

import re
from collections.abc import Collection, Sequence

import numpy as np

from shan_model.vocabulary import tokenize

SWAPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "colour": (
        ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"),
    ),
    "size": (
        ("big", "small"), ("big", "little"), ("large", "small"), ("large", "little"), ("huge", "tiny"),
        ("tall", "short"), ("long", "short"), ("old", "young"),
    ),
    "position": (
        ("left", "right"), ("above", "below"), ("over", "under"), ("top", "bottom"), ("inside", "outside"),
        ("front", "back"), ("up", "down"), ("upper", "lower"),
    ),
    "person or animal": (
        ("man", "woman"), ("men", "women"), ("boy", "girl"), ("boys", "girls"),
        ("dog", "cat", "horse", "bird", "cow", "sheep"), ("dogs", "cats", "horses", "birds", "cows"),
    ),
    "shape": (("circle", "square", "triangle", "star", "heart", "ring", "cross", "crescent"),),
}  # fmt: skip
"""By kind, words of which one in the place of another makes a caption wrong."""
EXCHANGED = ("colour", "size")
"""Kinds of which two words of one caption may change places."""
_JOINED = {"and", "or", "with"}
"""`black and white` is `white and black`."""


def shuffled(caption: str, rng: np.random.Generator) -> str | None:
    """The caption's words in another order; None for fewer than four different words."""
    words = tokenize(caption)
    if len(set(words)) < 4:
        return None
    other = words
    while other == words:
        other = [words[i] for i in rng.permutation(len(words))]
    return " ".join(other)


def swapped(
    caption: str, kind: str, known: Collection[str], told: Collection[str], rng: np.random.Generator
) -> str | None:
    """One word of a kind made another one of `known` that nobody tells of the photo (`told`); None if there is none."""
    choices = [
        (word, other)
        for word in tokenize(caption)
        for group in SWAPS[kind]
        if word in group
        for other in group
        if other in known and other not in told
    ]
    if not choices:
        return None
    word, other = choices[rng.integers(len(choices))]
    return _replace(caption, {word: other})


def exchanged(caption: str) -> str | None:
    """The first two different words of a kind in each other's place; None without two, or where they are joined."""
    words = tokenize(caption)
    for kind in EXCHANGED:
        for group in SWAPS[kind]:
            found = [(place, word) for place, word in enumerate(words) if word in group]
            if len(found) != 2 or found[0][1] == found[1][1]:
                continue
            (first, one), (second, other) = found
            if second - first > 2 or (second - first == 2 and words[first + 1] not in _JOINED):
                return _replace(caption, {one: other, other: one})
    return None


def restyled(caption: str) -> list[str]:
    """The same caption in capitals, in wide spaces, and with a full stop at its end."""
    forms = ["  " + caption.replace(" ", "\t  ") + " \n", caption.rstrip(" .") + "."]
    if tokenize(caption.upper()) == tokenize(caption):  # not so for some letters, such as the German sharp s
        forms.append(caption.upper())
    return forms


def odd_texts(captions: Sequence[str]) -> dict[str, str]:
    """Texts that no caption prepares a model for, by what they are."""
    return {
        "empty": "",
        "spaces": " \t ",
        "no letters": "?! -- ...",
        "unknown words": "zxqv blorptang wuggified",
        "one unknown word": "zxqv",
        "emoji": "\U0001f436\U0001f3be",
        "another script": "一只狗在海滩上奔跑",
        "numbers": "3.14159 1000000",
        "a caption of 500 words": " ".join((" ".join(captions).split() * 500)[:500]),
    }


def _replace(caption: str, words: dict[str, str]) -> str:
    """Each word's every occurrence by its other, at once."""
    pattern = "|".join(rf"\b{re.escape(word)}\b" for word in words)
    return re.sub(pattern, lambda found: words[found[0].lower()], caption, flags=re.IGNORECASE)
