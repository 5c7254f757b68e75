"""Sentence frames: which things of a scene a caption names, in which order and relation.

Each `draw_...` function returns a frame, or None if the scene does not provide what the pattern needs. For a scene of a
minimal pair (`swap` is given), frames prefer the two things that were swapped; `captions` discards the frames that do
not distinguish the pair.
"""

import random
from dataclasses import dataclass, replace
from itertools import pairwise

from pipelines.datasets.scenes.lexicon import COUNT_WORDS, INVERSE, ITS_WORDS, RELATION_WORDS
from pipelines.datasets.scenes.world import CLEAR_GAP, Scene, Swap, clear_relations


@dataclass(frozen=True)
class Frame:
    """A sentence frame; `{k}` in `pattern` and `text` is a placeholder for the noun phrase of `slots[k]`.

    `text` is `pattern` with all other words filled in. `relations` refer to positions in `slots`. `count` is the number
    of things in the picture if the sentence states it.
    """

    pattern: str
    text: str
    slots: tuple[int, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    count: int | None = None

    def with_background(self, phrase: str, side: str) -> "Frame":
        """Returns the frame with the background named `before` the sentence or `after` it (before its colon)."""
        if side == "before" and not self.text.startswith("a picture"):
            return replace(self, text=f"{phrase}, {self.text}")
        head, colon, rest = self.text.partition(":")
        return replace(self, text=f"{head} {phrase}{colon}{rest}")


PAIR_PATTERNS = (
    "{0} RELATION {1}",
    "{0} is RELATION {1}",
    "{0} lies RELATION {1}",
    "there is {0} RELATION {1}",
    "we see {0} RELATION {1}",
    "a picture of {0} RELATION {1}",
    "{0} and, ITS, {1}",
    "{0}, and ITS {1}",
)
WHICH_PATTERNS = (
    "{0} RELATION {1}, which is ALSO {2}",
    "{0} is RELATION {1} that is ALSO {2}",
)
ROW_PATTERNS = ("FROM: LIST", "LIST, FROM", "in a row FROM: LIST")
LIST_PATTERNS = (
    "LIST",
    "we see LIST",
    "there is LIST",
    "LIST together",
    "COUNT shapes: LIST",
    "a picture with COUNT things: LIST",
)
DIRECTIONS = (
    ("x", "left of", "from left to right"),
    ("x", "right of", "from right to left"),
    ("y", "above", "from top to bottom"),
    ("y", "below", "from bottom to top"),
)


def draw_pair(rng: random.Random, scene: Scene, swap: Swap | None) -> Frame | None:
    """Returns a frame with one thing in relation to another, stated from either side."""
    first, second = _draw_two(rng, scene, swap)
    relation = _draw_relation(rng, scene, first, second)
    if relation is None:
        return None
    # "a star and, to its left, a ring" places the second thing, so it takes the words of the inverse relation.
    words = {
        "RELATION": rng.choice(RELATION_WORDS[relation]),
        "ITS": rng.choice(ITS_WORDS[INVERSE[relation]]),
    }
    pattern = rng.choice(PAIR_PATTERNS)
    return Frame(pattern, _fill(pattern, words), (first, second), ((0, relation, 1),))


def draw_which(rng: random.Random, scene: Scene, swap: Swap | None) -> Frame | None:
    """Returns a frame with three things in a chain: the first relates to the second, the second to the third."""
    if len(scene.things) < 3:
        return None
    first, second = _draw_two(rng, scene, swap)
    third = rng.choice([i for i in range(len(scene.things)) if i not in (first, second)])
    order = rng.choice(((first, second, third), (third, first, second)))
    one = _draw_relation(rng, scene, order[0], order[1])
    two = _draw_relation(rng, scene, order[1], order[2])
    if one is None or two is None:
        return None
    words = {"RELATION": rng.choice(RELATION_WORDS[one]), "ALSO": rng.choice(RELATION_WORDS[two])}
    pattern = rng.choice(WHICH_PATTERNS)
    return Frame(pattern, _fill(pattern, words), order, ((0, one, 1), (1, two, 2)))


def draw_row(rng: random.Random, scene: Scene, _swap: Swap | None) -> Frame | None:
    """Returns a frame with all things in their order from one side of the picture to the other."""
    axis, relation, opening = rng.choice(DIRECTIONS)
    back = relation in ("right of", "below")
    order = sorted(range(len(scene.things)), key=lambda i: getattr(scene.things[i], axis), reverse=back)
    along = [getattr(scene.things[i], axis) for i in order]
    if any(abs(b - a) < CLEAR_GAP for a, b in pairwise(along)):
        return None
    pattern = rng.choice(ROW_PATTERNS)
    text = _fill(pattern, {"FROM": opening, "LIST": _enumerate(len(order), rng.choice(("and", "then")))})
    return Frame(pattern, text, tuple(order), tuple((k, relation, k + 1) for k in range(len(order) - 1)))


def draw_list(rng: random.Random, scene: Scene, swap: Swap | None) -> Frame | None:
    """Returns a frame that lists all things without their positions."""
    if swap is not None and swap.kind == "place":
        return None  # a list does not state positions, so it cannot distinguish this pair
    order = rng.sample(range(len(scene.things)), len(scene.things))
    pattern = rng.choice(LIST_PATTERNS)
    text = _fill(pattern, {"COUNT": COUNT_WORDS[len(order)], "LIST": _enumerate(len(order), "and")})
    return Frame(pattern, text, tuple(order), count=len(order) if "COUNT" in pattern else None)


def _fill(pattern: str, words: dict[str, str]) -> str:
    for blank, word in words.items():
        pattern = pattern.replace(blank, word)
    return pattern


def _draw_two(rng: random.Random, scene: Scene, swap: Swap | None) -> tuple[int, int]:
    pair = [swap.first, swap.second] if swap else rng.sample(range(len(scene.things)), 2)
    rng.shuffle(pair)
    return pair[0], pair[1]


def _draw_relation(rng: random.Random, scene: Scene, first: int, second: int) -> str | None:
    found = clear_relations(scene, first, second)
    return rng.choice(found) if found else None


def _enumerate(count: int, last: str) -> str:
    parts = [f"{{{k}}}" for k in range(count)]
    return ", ".join(parts[:-1]) + f" {last} {parts[-1]}"
