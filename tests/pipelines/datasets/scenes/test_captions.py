"""Reads captions of rendered scenes back, with a grammar of its own: what the sentence says, not what was meant.

Shares no table with `pipelines.datasets.scenes`, so a word that the generator uses wrongly is a disagreement here.
"""

import itertools
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

SIZES = {"small": "small", "little": "small", "large": "large", "big": "large"}
TEXTURES = {
    "plain": "plain",
    "striped": "striped",
    "stripes": "striped",
    "dotted": "dotted",
    "spotted": "dotted",
    "dots": "dotted",
    "checked": "checked",
    "checks": "checked",
}
COLOURS = ("red", "yellow", "green", "blue", "purple", "white", "black")
SHAPES = {
    "circle": "circle",
    "disc": "circle",
    "square": "square",
    "triangle": "triangle",
    "star": "star",
    "heart": "heart",
    "ring": "ring",
    "hoop": "ring",
    "cross": "cross",
    "crescent": "crescent",
    "moon": "crescent",
}
PLACES = {
    "on the grass": "grass",
    "in a meadow": "grass",
    "on a wooden table": "wood",
    "on wooden boards": "wood",
    "against a brick wall": "bricks",
    "on a wall of bricks": "bricks",
    "in the night sky": "night",
    "at night": "night",
    "on the sand": "sand",
    "at the beach": "sand",
    "on the sea": "sea",
    "on the water": "sea",
}
# (what to look at, sign): the first thing's centre minus the second's has this sign.
WORDS = {
    **dict.fromkeys(("left of", "to the left of", "on the left side of"), ("x", -1)),
    **dict.fromkeys(("right of", "to the right of", "on the right side of"), ("x", 1)),
    **dict.fromkeys(("above", "over"), ("y", -1)),
    **dict.fromkeys(("below", "under", "beneath"), ("y", 1)),
    **dict.fromkeys(("in front of", "partly covering"), ("depth", 1)),
    **dict.fromkeys(("behind", "partly hidden by"), ("depth", -1)),
}
ITS = {
    **dict.fromkeys(("to its left", "on its left side"), ("x", -1)),
    **dict.fromkeys(("to its right", "on its right side"), ("x", 1)),
    "above it": ("y", -1),
    **dict.fromkeys(("below it", "beneath it"), ("y", 1)),
    "in front of it": ("depth", 1),
    "behind it": ("depth", -1),
}
ROWS = {
    "from left to right": ("x", -1),
    "from right to left": ("x", 1),
    "from top to bottom": ("y", -1),
    "from bottom to top": ("y", 1),
}
COUNTS = {"two": 2, "three": 3, "four": 4}

Relation = tuple[int, tuple[str, int], int]


def _any(words: Any) -> str:
    return "(" + "|".join(sorted(map(re.escape, words), key=len, reverse=True)) + ")"


NOUN_PHRASE = re.compile(
    rf"\ba (?:{_any(SIZES)} )?(?:{_any(TEXTURES)} )?(?:{_any(COLOURS)} )?{_any(SHAPES)}(?: with {_any(TEXTURES)})?\b"
)
LIST = r"(#(?:, #)* (?:and|then) #)"


@dataclass
class Reading:
    things: list[dict[str, str]]
    relations: list[Relation] = field(default_factory=list)
    background: str | None = None
    count: int | None = None


@cache
def read(caption: str) -> Reading:
    """The claims of a caption; ValueError for a sentence outside the grammar."""
    text = caption.removesuffix(".").lower()
    reading = Reading([_read_thing(found) for found in NOUN_PHRASE.finditer(text)])
    text = NOUN_PHRASE.sub("#", text)
    for place, background in PLACES.items():
        text, found = re.subn(rf"^{place}, | {place}(?=:|$)", "", text)
        if found:
            reading.background = background
    one, its, row = _any(WORDS), _any(ITS), _any(ROWS)
    if found := re.fullmatch(rf"(?:there is |we see |a picture of )?#(?: is| lies)? {one} #", text):
        reading.relations = [(0, WORDS[found[1]], 1)]
    elif found := re.fullmatch(rf"#(?: and, {its},|, and {its}) #", text):
        reading.relations = [(1, ITS[found[1] or found[2]], 0)]
    elif found := re.fullmatch(rf"# {one} #, which is {one} #|# is {one} # that is {one} #", text):
        words = [word for word in found.groups() if word]
        reading.relations = [(0, WORDS[words[0]], 1), (1, WORDS[words[1]], 2)]
    elif found := re.fullmatch(rf"(?:in a row )?{row}: {LIST}|{LIST}, {row}", text):
        axis = ROWS[found[1] or found[4]]
        reading.relations = [(k, axis, k + 1) for k in range(len(reading.things) - 1)]
    elif found := re.fullmatch(rf"(?:{_any(COUNTS)} shapes|a picture with {_any(COUNTS)} things): {LIST}", text):
        reading.count = COUNTS[found[1] or found[2]]
    elif not re.fullmatch(rf"(?:we see |there is )?{LIST}(?: together)?", text):
        raise ValueError(f"cannot read {caption!r}: left with {text!r}")
    return reading


def _read_thing(found: re.Match[str]) -> dict[str, str]:
    size, before, colour, shape, after = found.groups()
    values = {
        "size": SIZES.get(size),
        "texture": TEXTURES.get(before or after),
        "colour": colour,
        "shape": SHAPES[shape],
    }
    return {name: value for name, value in values.items() if value}


def is_true(reading: Reading, photo: dict[str, Any], gap: float = 6) -> bool:
    """Whether the ground truth of a photo (an entry of objects.json) bears a reading out.

    `gap`: pixels by which the centres of the boxes must differ.
    """
    objects = photo["objects"]
    if reading.background not in (None, photo["background"]) or reading.count not in (None, len(objects)):
        return False
    for cast in itertools.permutations(range(len(objects)), len(reading.things)):
        fits = all(wanted.items() <= objects[i].items() for wanted, i in zip(reading.things, cast, strict=True))
        if fits and all(_related(objects, cast[a], r, cast[b], gap) for a, r, b in reading.relations):
            return True
    return False


def _related(objects: list[dict[str, Any]], a: int, relation: tuple[str, int], b: int, gap: float) -> bool:
    axis, sign = relation
    box_a, box_b = objects[a]["box"], objects[b]["box"]
    if axis == "depth":
        apart = any(box_a[k + 2] <= box_b[k] or box_b[k + 2] <= box_a[k] for k in (0, 1))
        return not apart and (a - b) * sign > 0
    k = "xy".index(axis)
    return ((box_a[k] + box_a[k + 2]) - (box_b[k] + box_b[k + 2])) / 2 * sign > gap


def test_reads_a_relation_from_both_sides():
    told = read("On the sand, a big red star with dots is to the left of a ring.")
    assert told.things == [{"size": "large", "texture": "dotted", "colour": "red", "shape": "star"}, {"shape": "ring"}]
    assert told.relations == [(0, ("x", -1), 1)]
    assert told.background == "sand"
    assert read("A ring and, to its left, a red star.").relations == [(1, ("x", -1), 0)]


def test_rejects_a_wording_it_does_not_know():
    with pytest.raises(ValueError, match="next to"):
        read("A red star next to a blue ring.")


def test_truth_depends_on_who_stands_where():
    photo = {
        "background": "sea",
        "objects": [
            {"shape": "star", "colour": "red", "box": [0, 0, 50, 50]},
            {"shape": "ring", "colour": "blue", "box": [100, 0, 150, 50]},
        ],
    }
    assert is_true(read("A red star left of a blue ring on the sea."), photo)
    assert not is_true(read("A blue ring left of a red star on the sea."), photo)
    assert not is_true(read("A blue star left of a red ring."), photo)
    assert not is_true(read("A red star left of a blue ring at night."), photo)
    assert not is_true(read("A red star in front of a blue ring."), photo)
    assert not is_true(read("Three shapes: a red star and a blue ring."), photo)
