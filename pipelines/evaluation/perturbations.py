"""Rule-based perturbations of captions for behavioural tests: some make a caption wrong, some only its formatting."""

import re
from collections.abc import Collection, Sequence

import numpy as np

from shan_model.vocabulary import tokenize

REPLACEMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
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
"""Groups of words by kind; replacing a word by another one of its group makes a caption wrong."""
SWAPPED_KINDS = ("colour", "size")
"""Kinds of which two words of one caption may be swapped."""
_CONJUNCTIONS = {"and", "or", "with"}
"""Swapping the words around one of these keeps the meaning: `black and white` is `white and black`."""


def shuffle_words(caption: str, rng: np.random.Generator) -> str | None:
    """Returns the caption's words in another order, or None if it has fewer than four different words."""
    words = tokenize(caption)
    if len(set(words)) < 4:
        return None
    shuffled = words
    while shuffled == words:
        shuffled = [words[i] for i in rng.permutation(len(words))]
    return " ".join(shuffled)


def replace_word(
    caption: str, kind: str, vocabulary: Collection[str], excluded: Collection[str], rng: np.random.Generator
) -> str | None:
    """Replaces a random word of a kind by another one of its group, everywhere in the caption.

    The new word is in `vocabulary` and not in `excluded`, the words of all captions of the photo, since it might be
    true of the photo otherwise. Returns None if there is no such pair of words.
    """
    choices = [
        (word, other)
        for word in tokenize(caption)
        for group in REPLACEMENTS[kind]
        if word in group
        for other in group
        if other in vocabulary and other not in excluded
    ]
    if not choices:
        return None
    word, other = choices[rng.integers(len(choices))]
    return _replace(caption, {word: other})


def swap_attributes(caption: str) -> str | None:
    """Swaps two different words of one kind, so that the caption keeps its words but not its meaning.

    Returns None unless exactly two words of a group occur, and if both describe one object (`black and white dog`).
    """
    words = tokenize(caption)
    for kind in SWAPPED_KINDS:
        for group in REPLACEMENTS[kind]:
            found = [(position, word) for position, word in enumerate(words) if word in group]
            if len(found) != 2 or found[0][1] == found[1][1]:
                continue
            (first, one), (second, other) = found
            if second - first > 2 or (second - first == 2 and words[first + 1] not in _CONJUNCTIONS):
                return _replace(caption, {one: other, other: one})
    return None


def reformat(caption: str) -> list[str]:
    """Returns the caption with wide spaces, with a full stop, and in capitals: the same words in another format."""
    forms = ["  " + caption.replace(" ", "\t  ") + " \n", caption.rstrip(" .") + "."]
    if tokenize(caption.upper()) == tokenize(caption):  # false for some characters, such as the German sharp s
        forms.append(caption.upper())
    return forms


def unusual_texts(captions: Sequence[str]) -> dict[str, str]:
    """Returns texts unlike any caption, by description; each must still have a finite score."""
    return {
        "empty": "",
        "spaces": " \t ",
        "punctuation only": "?! -- ...",
        "unknown words": "zxqv blorptang wuggified",
        "one unknown word": "zxqv",
        "emoji": "\U0001f436\U0001f3be",
        "another script": "一只狗在海滩上奔跑",
        "numbers": "3.14159 1000000",
        "a caption of 500 words": " ".join((" ".join(captions).split() * 500)[:500]),
    }


def _replace(caption: str, words: dict[str, str]) -> str:
    """Replaces every occurrence of each word in one pass, so that two words can be swapped."""
    pattern = "|".join(rf"\b{re.escape(word)}\b" for word in words)
    return re.sub(pattern, lambda found: words[found[0].lower()], caption, flags=re.IGNORECASE)
