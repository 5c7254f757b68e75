"""Draws five captions for a scene, each with its own sentence pattern and, if possible, true of that scene only.

A caption starts as a plan: which things are named, by which attributes, in which sentence frame. A plan refers to
things by position, so that the same plan gives the same words, in another order, for the counterpart of a minimal pair.
This makes the two scenes indistinguishable for a bag-of-words model.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.datasets.scenes.frames import Frame, draw_list, draw_pair, draw_row, draw_which
from pipelines.datasets.scenes.lexicon import BACKGROUND_WORDS, Lexicon, draw_lexicon, noun_phrase
from pipelines.datasets.scenes.meaning import SceneIndex, Statement, holds
from pipelines.datasets.scenes.world import Scene, Swap

CAPTIONS = 5
"""Captions per scene, as in Flickr30K and COCO."""
TRIES = 60
"""Plans that are drawn for one caption before the least ambiguous of them is used."""
DRAWERS: tuple[Callable[[random.Random, Scene, Swap | None], Frame | None], ...] = (
    draw_pair,
    draw_which,
    draw_row,
    draw_list,
)
DRAWER_WEIGHTS = (5, 2, 2, 3)
DETAILS: tuple[frozenset[str], ...] = (
    frozenset({"shape", "colour"}),
    frozenset({"shape", "colour", "texture"}),
    frozenset({"shape", "colour", "size"}),
    frozenset({"shape", "colour", "texture", "size"}),
    frozenset({"shape"}),
)
DETAIL_WEIGHTS = (8, 5, 4, 2, 1)
BACKGROUND_SIDES = ("", "after", "before")
BACKGROUND_SIDE_WEIGHTS = (5, 3, 2)


@dataclass(frozen=True)
class Plan:
    """A caption without the values of its attributes; `details[k]` names the attributes of the frame's k-th thing."""

    frame: Frame
    details: tuple[frozenset[str], ...]
    names_background: bool
    lexicon: Lexicon

    def values(self, scene: Scene) -> tuple[dict[str, str], ...]:
        """Returns the values of the named attributes of each named thing in a scene."""
        return tuple(
            {name: getattr(scene.things[slot], name) for name in sorted(detail)}
            for slot, detail in zip(self.frame.slots, self.details, strict=True)
        )

    def statement(self, scene: Scene) -> Statement:
        """Returns what the caption states when it describes this scene."""
        background = scene.background if self.names_background else None
        return Statement(self.values(scene), self.frame.relations, background, self.frame.count)

    def sentence(self, scene: Scene) -> str:
        """Returns the caption of a scene, capitalised and with a full stop."""
        text = self.frame.text.format(*(noun_phrase(v, self.lexicon) for v in self.values(scene)))
        return text[0].upper() + text[1:] + "."


def tokens(sentence: str) -> list[str]:
    """Returns the words of a sentence in lower case, as the Karpathy format stores them."""
    return re.findall(r"[a-z]+", sentence.lower())


def draw_captions(
    rng: random.Random, scene: Scene, index: SceneIndex, counterpart: Scene | None, swap: Swap | None
) -> list[Plan]:
    """Returns five plans with five different patterns whose sentences are true of `scene`, not of `counterpart`.

    `index` holds the scenes of the split. A caption that is also true of another scene of the split is used only after
    `TRIES` attempts.
    """
    chosen: list[Plan] = []
    while len(chosen) < CAPTIONS:
        best: Plan | None = None
        min_matches = len(index.scenes) + 1
        tries = 0
        while best is None or (min_matches > 1 and tries < TRIES):
            tries += 1
            plan = _draw_plan(rng, scene, swap)
            if plan is None or any(plan.frame.pattern == other.frame.pattern for other in chosen):
                continue
            if counterpart is not None and not _distinguishes(plan, scene, counterpart):
                continue
            matches = max(len(index.matches(plan.statement(each))) for each in (scene, counterpart) if each)
            if matches < min_matches:
                best, min_matches = plan, matches
        chosen.append(best)
    return chosen


def _distinguishes(plan: Plan, scene: Scene, counterpart: Scene) -> bool:
    """Returns whether the caption of each scene of a minimal pair is false for the other scene."""
    first, second = plan.sentence(scene), plan.sentence(counterpart)
    assert sorted(tokens(first)) == sorted(tokens(second)), f"different words in a minimal pair: {first} / {second}"
    return not holds(plan.statement(scene), counterpart) and not holds(plan.statement(counterpart), scene)


def _draw_plan(rng: random.Random, scene: Scene, swap: Swap | None) -> Plan | None:
    drawer = rng.choices(DRAWERS, DRAWER_WEIGHTS)[0]
    frame = drawer(rng, scene, swap)
    if frame is None:
        return None
    shared = rng.choices(DETAILS[:-1], DETAIL_WEIGHTS[:-1])[0]
    if swap is not None and swap.kind != "place":
        shared |= {swap.kind}  # without it, the sentence would be true of both scenes
    details = tuple(
        shared if swap is not None and slot in (swap.first, swap.second) else rng.choices(DETAILS, DETAIL_WEIGHTS)[0]
        for slot in frame.slots
    )
    side = rng.choices(BACKGROUND_SIDES, BACKGROUND_SIDE_WEIGHTS)[0]
    if side:
        frame = frame.with_background(rng.choice(BACKGROUND_WORDS[scene.background]), side)
    return Plan(frame, details, bool(side), draw_lexicon(rng))
