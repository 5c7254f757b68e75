"""What a caption claims, apart from its wording, and whether a scene makes it true."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.datasets.scenes.world import Scene, Thing, relates


@dataclass(frozen=True)
class Claim:
    """`things`: attributes said of each thing; `relations`: (thing, relation, thing) by position there.

    `background` and `count` (of things in the whole picture) are None where the caption is silent.
    """

    things: tuple[dict[str, str], ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    background: str | None = None
    count: int | None = None


def holds(claim: Claim, scene: Scene) -> bool:
    """Whether different things of the scene can play all the parts of the claim."""
    if claim.background not in (None, scene.background) or claim.count not in (None, len(scene.things)):
        return False
    candidates = [[i for i, thing in enumerate(scene.things) if _is(thing, wanted)] for wanted in claim.things]
    return any(
        len(set(cast)) == len(cast) and all(relates(scene, cast[a], r, cast[b]) for a, r, b in claim.relations)
        for cast in itertools.product(*candidates)
    )


def _is(thing: Thing, wanted: dict[str, str]) -> bool:
    return all(getattr(thing, attribute) == value for attribute, value in wanted.items())


class Crowd:
    """The scenes of a split, indexed so that the ones that make a claim true are found quickly."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = scenes
        self._by_name: dict[tuple[str, str], set[int]] = defaultdict(set)
        for index, scene in enumerate(scenes):
            for thing in scene.things:
                self._by_name[thing.name].add(index)

    def matches(self, claim: Claim) -> list[int]:
        """Positions of the scenes that make the claim true: more than one means an ambiguous caption."""
        names = [(t["colour"], t["shape"]) for t in claim.things if "colour" in t and "shape" in t]
        likely = set.intersection(*(self._by_name[n] for n in names)) if names else range(len(self.scenes))
        return [index for index in sorted(likely) if holds(claim, self.scenes[index])]
