"""An independent reader of the captions of rendered scenes, with its own grammar.

It shares no table with `pipelines.datasets.scenes`, so a word that the generator uses wrongly shows up as a
disagreement.
"""

import itertools
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

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
# (axis, sign): the difference of the first and the second thing's centre along the axis has this sign.
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
    """Returns the statements of a caption; raises ValueError for a sentence outside the grammar."""
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
        raise ValueError(f"cannot read {caption!r}: no pattern matches {text!r}")
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
    """Returns whether a reading is true of the ground truth of a photo (an entry of objects.json).

    `gap` is the number of pixels by which the centres of the boxes must differ.
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


def bag(caption: str) -> Counter[str]:
    """Returns the words of a caption with their counts."""
    return Counter(caption.lower().replace(",", "").replace(":", "").replace(".", "").split())
