"""Five sentences for a scene, each worded in its own way and, where possible, true of that scene alone.

A caption is first a plan: which things are named, by which attributes, in which frame. A plan speaks of
places in the scene, so the same plan told of the scene's twin gives the same words in another order:
that is what makes a bag of words blind between twins.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.datasets.scenes.frames import Frame, draw_list, draw_pair, draw_row, draw_which
from pipelines.datasets.scenes.lexicon import BACKGROUND_WORDS, Lexicon, draw_lexicon, noun_phrase
from pipelines.datasets.scenes.meaning import Claim, Crowd, holds
from pipelines.datasets.scenes.world import Scene, Swap

CAPTIONS = 5
"""Captions a scene, as in Flickr30k and COCO."""
TRIES = 60
"""Plans looked at for one caption before the least ambiguous so far is taken."""
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
PLACES = ("", "after", "before")
PLACE_WEIGHTS = (5, 3, 2)


@dataclass(frozen=True)
class Plan:
    """A caption but for its values: `details[k]` are the attributes named of the frame's k-th thing."""

    frame: Frame
    details: tuple[frozenset[str], ...]
    names_background: bool
    lexicon: Lexicon

    def values(self, scene: Scene) -> tuple[dict[str, str], ...]:
        """The named attributes of each named thing, in this scene."""
        return tuple(
            {name: getattr(scene.things[slot], name) for name in sorted(detail)}
            for slot, detail in zip(self.frame.slots, self.details, strict=True)
        )

    def claim(self, scene: Scene) -> Claim:
        """What the caption says when told of this scene."""
        background = scene.background if self.names_background else None
        return Claim(self.values(scene), self.frame.relations, background, self.frame.count)

    def tell(self, scene: Scene) -> str:
        """The sentence, capitalised and with its full stop."""
        text = self.frame.text.format(*(noun_phrase(v, self.lexicon) for v in self.values(scene)))
        return text[0].upper() + text[1:] + "."


def tokens(sentence: str) -> list[str]:
    """The words of a sentence in lower case, as the Karpathy files hold them."""
    return re.findall(r"[a-z]+", sentence.lower())


def draw_captions(rng: random.Random, scene: Scene, crowd: Crowd, twin: Scene | None, swap: Swap | None) -> list[Plan]:
    """Five plans whose sentences follow five patterns, hold for `scene` and never for its `twin`.

    `crowd` is the scene's split. A caption that other scenes of it make true is taken only after `TRIES`.
    """
    chosen: list[Plan] = []
    while len(chosen) < CAPTIONS:
        best: Plan | None = None
        fewest = len(crowd.scenes) + 1
        tries = 0
        while best is None or (fewest > 1 and tries < TRIES):
            tries += 1
            plan = _draw_plan(rng, scene, swap)
            if plan is None or any(plan.frame.pattern == other.frame.pattern for other in chosen):
                continue
            if twin is not None and not _tells_twins_apart(plan, scene, twin):
                continue
            rivals = max(len(crowd.matches(plan.claim(told))) for told in (scene, twin) if told)
            if rivals < fewest:
                best, fewest = plan, rivals
        chosen.append(best)
    return chosen


def _tells_twins_apart(plan: Plan, scene: Scene, twin: Scene) -> bool:
    ours, theirs = plan.tell(scene), plan.tell(twin)
    assert sorted(tokens(ours)) == sorted(tokens(theirs)), f"other words for a twin: {ours} / {theirs}"
    return not holds(plan.claim(scene), twin) and not holds(plan.claim(twin), scene)


def _draw_plan(rng: random.Random, scene: Scene, swap: Swap | None) -> Plan | None:
    drawer = rng.choices(DRAWERS, DRAWER_WEIGHTS)[0]
    frame = drawer(rng, scene, swap)
    if frame is None:
        return None
    shared = rng.choices(DETAILS[:-1], DETAIL_WEIGHTS[:-1])[0]
    if swap is not None and swap.kind != "place":
        shared |= {swap.kind}  # unsaid, the sentence would fit both twins
    details = tuple(
        shared if swap is not None and slot in (swap.first, swap.second) else rng.choices(DETAILS, DETAIL_WEIGHTS)[0]
        for slot in frame.slots
    )
    place = rng.choices(PLACES, PLACE_WEIGHTS)[0]
    if place:
        frame = frame.placed(rng.choice(BACKGROUND_WORDS[scene.background]), place)
    return Plan(frame, details, bool(place), draw_lexicon(rng))
