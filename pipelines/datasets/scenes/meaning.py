"""The meaning of a caption, independent of its wording, and whether it is true of a scene."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.datasets.scenes.world import Scene, Thing, relates


@dataclass(frozen=True)
class Statement:
    """What a caption states.

    `things` are the stated attributes of each thing, `relations` triples (thing, relation, thing) of positions in
    `things`. `background` and `count`, the number of things in the picture, are None if they are not stated.
    """

    things: tuple[dict[str, str], ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    background: str | None = None
    count: int | None = None


def holds(statement: Statement, scene: Scene) -> bool:
    """Returns whether the statement is true of the scene with different things of it for the things that it names."""
    if statement.background not in (None, scene.background) or statement.count not in (None, len(scene.things)):
        return False
    candidates = [[i for i, thing in enumerate(scene.things) if _is(thing, wanted)] for wanted in statement.things]
    return any(
        len(set(assigned)) == len(assigned)
        and all(relates(scene, assigned[a], r, assigned[b]) for a, r, b in statement.relations)
        for assigned in itertools.product(*candidates)
    )


def _is(thing: Thing, wanted: dict[str, str]) -> bool:
    return all(getattr(thing, attribute) == value for attribute, value in wanted.items())


class SceneIndex:
    """An index of the scenes of a split, for a fast search of those that a statement is true of."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = scenes
        self._by_name: dict[tuple[str, str], set[int]] = defaultdict(set)
        for index, scene in enumerate(scenes):
            for thing in scene.things:
                self._by_name[thing.name].add(index)

    def matches(self, statement: Statement) -> list[int]:
        """Returns the positions of the scenes of which the statement is true; several mean an ambiguous caption."""
        names = [(t["colour"], t["shape"]) for t in statement.things if "colour" in t and "shape" in t]
        candidates = set.intersection(*(self._by_name[n] for n in names)) if names else range(len(self.scenes))
        return [index for index in sorted(candidates) if holds(statement, self.scenes[index])]
