"""Words of the captions, with synonyms, so that the captions of a scene differ in wording.

Every adjective and noun starts with a consonant, so the article is always "a". An "an" that moves with its word would
give the two scenes of a minimal pair different bags of words.
"""

import random

SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc"),
    "square": ("square",),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "ring": ("ring", "hoop"),
    "cross": ("cross",),
    "crescent": ("crescent", "moon"),
}
SIZE_WORDS: dict[str, tuple[str, ...]] = {"small": ("small", "little"), "large": ("large", "big")}
TEXTURE_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("plain",),
    "striped": ("striped", "with stripes"),
    "dotted": ("dotted", "spotted", "with dots"),
    "checked": ("checked", "with checks"),
}
BACKGROUND_WORDS: dict[str, tuple[str, ...]] = {
    "grass": ("on the grass", "in a meadow"),
    "wood": ("on a wooden table", "on wooden boards"),
    "bricks": ("against a brick wall", "on a wall of bricks"),
    "night": ("in the night sky", "at night"),
    "sand": ("on the sand", "at the beach"),
    "sea": ("on the sea", "on the water"),
}
RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "left of": ("left of", "to the left of", "on the left side of"),
    "right of": ("right of", "to the right of", "on the right side of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "in front of": ("in front of", "partly covering"),
    "behind": ("behind", "partly hidden by"),
}
ITS_WORDS: dict[str, tuple[str, ...]] = {
    "left of": ("to its left", "on its left side"),
    "right of": ("to its right", "on its right side"),
    "above": ("above it",),
    "below": ("below it", "beneath it"),
    "in front of": ("in front of it",),
    "behind": ("behind it",),
}
"""The same relations stated from the other side: "a star and, to its left, a ring"."""
INVERSE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "in front of": "behind",
    "behind": "in front of",
}
COUNT_WORDS = {2: "two", 3: "three", 4: "four"}

Lexicon = dict[str, str]


def draw_lexicon(rng: random.Random) -> Lexicon:
    """Returns one word for each value of an attribute, for use in one caption.

    The word depends on the value and not on the thing, so it moves with the value within a minimal pair.
    """
    tables = (SHAPE_WORDS, SIZE_WORDS, TEXTURE_WORDS)
    return {value: rng.choice(words) for table in tables for value, words in table.items()}


def noun_phrase(values: dict[str, str], lexicon: Lexicon) -> str:
    """Returns a noun phrase of the given attributes, such as `a large red star with stripes`."""
    texture = lexicon[values["texture"]] if "texture" in values else ""
    after = texture.startswith("with ")
    words = (
        "a",
        lexicon[values["size"]] if "size" in values else "",
        "" if after else texture,
        values.get("colour", ""),
        lexicon[values["shape"]],
        texture if after else "",
    )
    return " ".join(word for word in words if word)
