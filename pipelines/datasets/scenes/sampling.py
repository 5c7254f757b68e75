"""Draws the scenes of one split: singles and twin pairs, each a combination never used before.

`random.Random` throughout: its stream is part of Python's promise, NumPy's generators may change theirs.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.datasets.scenes.render import hidden_share
from pipelines.datasets.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    HEIGHT,
    REACH,
    SHAPES,
    SIZES,
    SWAP_KINDS,
    TEXTURES,
    WIDTH,
    Scene,
    Swap,
    SwapKind,
    Thing,
    clear_relations,
    closeness,
)

COUNTS = (2, 2, 3, 3, 3, 4)
"""How many things a scene has; the repeats are weights."""
OVERLAP_SHARE = 0.4
"""Share of scenes where one thing stands partly in front of another."""
OVERLAP = (0.48, 0.62)
"""Closeness of an overlapping pair: clearly one behind the other, both still recognisable."""
HIDDEN = (0.06, 0.5)
"""Share of the thing behind that the one in front may cover; circles that overlap may hold rings that do not."""
SWAP_WEIGHTS = (45, 15, 10, 30)
"""Weights of SWAP_KINDS: most twins exchange what a single region shows, some only how regions stand."""
EDGE = 3.0
"""Pixels kept free along the picture's edge."""


Group = tuple[Scene, Scene | None, Swap | None]
"""A scene, its twin and how they differ, or a scene alone."""


@dataclass(frozen=True)
class Draft:
    """A scene before it has words: `twin` is the position of its twin in the split's list."""

    scene: Scene
    twin: int | None = None
    swap: Swap | None = None


def draw_split(rng: random.Random, size: int, twin_share: float, used: set[object]) -> list[Draft]:
    """Draws `size` scenes in random order, `twin_share` of them in pairs; `used` collects their keys."""
    pairs = int(size * twin_share / 2)
    # Decided beforehand: a kind that is harder to find a scene for would otherwise become rare.
    kinds = [*rng.choices(SWAP_KINDS, SWAP_WEIGHTS, k=pairs), *[None] * (size - 2 * pairs)]
    groups: list[Group] = []
    for kind in kinds:
        group = None
        while group is None:
            group = _draw_group(rng, kind, used)
        groups.append(group)
    return _arrange(rng, size, groups)


def _draw_group(rng: random.Random, kind: SwapKind | None, used: set[object]) -> Group | None:
    """A scene, with its twin if `kind` says how they differ; None if it did not work or was there before."""
    scene = draw_scene(rng)
    found = draw_twin(rng, scene, kind) if kind else None
    keys = {scene.key, found[0].key} if found else {scene.key}
    if (kind and not found) or keys & used:
        return None
    used |= keys
    return (scene, *found) if found else (scene, None, None)


def draw_scene(rng: random.Random) -> Scene:
    """One scene of two to four things with different (colour, shape), laid out without crowding."""
    count = rng.choice(COUNTS)
    while True:
        overlap = rng.random() < OVERLAP_SHARE
        things = [_draw_thing(rng) for _ in range(count)]
        if len({thing.name for thing in things}) < count:
            continue
        if overlap and {things[0].size, things[1].size} == {"small"}:
            continue  # two small ones on top of each other are hard to tell even for people
        for _ in range(100):
            placed = _place(rng, things, overlap)
            if fits(placed) and shows(placed):
                return Scene(rng.choice(BACKGROUNDS), tuple(placed), rng.getrandbits(48))


def draw_twin(rng: random.Random, scene: Scene, kind: SwapKind) -> tuple[Scene, Swap] | None:
    """A twin that differs in one exchange, with its own grain and rotations; None if this one did not work."""
    first, second = rng.sample(range(len(scene.things)), 2)
    a, b = scene.things[first], scene.things[second]
    if kind == "place":
        useful = bool(clear_relations(scene, first, second))
    else:
        # The pair must differ in what moves, and, when the colour moves, in the shape that stays.
        useful = getattr(a, kind) != getattr(b, kind) and (kind != "colour" or a.shape != b.shape)
    swap = Swap(first, second, kind)
    twin = swap.apply(scene)
    names = {thing.name for thing in twin.things}
    if not useful or len(names) < len(twin.things) or not fits(twin.things):
        return None
    turned = tuple(replace(thing, angle=_draw_angle(rng)) for thing in twin.things)
    if not shows(turned):
        return None
    return replace(twin, things=turned, seed=rng.getrandbits(48)), swap


def fits(things: Sequence[Thing]) -> bool:
    """All inside the picture; each pair clearly apart or, for at most one pair, clearly overlapping."""
    for thing in things:
        reach = thing.radius * REACH + EDGE
        if not (reach <= thing.x <= WIDTH - reach and reach <= thing.y <= HEIGHT - reach):
            return False
    close = [closeness(a, b) for i, a in enumerate(things) for b in things[:i]]
    touching = [c for c in close if c < 1.1]
    return len(touching) <= 1 and all(OVERLAP[0] - 1e-9 <= c <= OVERLAP[1] + 1e-9 for c in touching)


def shows(things: Sequence[Thing]) -> bool:
    """Whether overlapping things really cover a part of each other, and leave enough to recognise."""
    pairs = ((back, front) for i, front in enumerate(things) for back in things[:i])
    return all(
        HIDDEN[0] <= hidden_share(back, front) <= HIDDEN[1] for back, front in pairs if closeness(back, front) < 1
    )


def _draw_thing(rng: random.Random) -> Thing:
    size = rng.choices(SIZES, (4, 6))[0]
    return Thing(rng.choice(SHAPES), rng.choice(COLOURS), size, rng.choice(TEXTURES), 0.0, 0.0, _draw_angle(rng))


def _draw_angle(rng: random.Random) -> float:
    return round(rng.uniform(-18, 18), 1)


def _place(rng: random.Random, things: list[Thing], overlap: bool) -> list[Thing]:
    placed: list[Thing] = []
    for index, thing in enumerate(things):
        reach = thing.radius * REACH + EDGE
        x, y = rng.uniform(reach, WIDTH - reach), rng.uniform(reach, HEIGHT - reach)
        if overlap and index == 1:
            back = placed[0]
            away = rng.uniform(*OVERLAP) * (back.radius + thing.radius)
            turn = rng.uniform(0, 2 * math.pi)
            x, y = back.x + away * math.cos(turn), back.y + away * math.sin(turn)
        # Hundredths of a pixel are plenty, and keep the last bit of sin and cos out of every file.
        placed.append(replace(thing, x=round(x, 2), y=round(y, 2)))
    return placed


def _arrange(rng: random.Random, size: int, groups: list[Group]) -> list[Draft]:
    """Random positions, so that twins are no neighbours and a tie broken by position helps nobody."""
    positions = list(range(size))
    rng.shuffle(positions)
    drafts: dict[int, Draft] = {}
    for scene, twin, swap in groups:
        here = positions.pop()
        if twin is None:
            drafts[here] = Draft(scene)
            continue
        there = positions.pop()
        drafts[here] = Draft(scene, there, swap)
        drafts[there] = Draft(twin, here, swap)
    return [drafts[position] for position in range(size)]
