"""Draws the scenes of a split at random: single scenes and minimal pairs, without repeating a combination.

All draws use `random.Random`, whose sequence is guaranteed by Python; NumPy's generators may change theirs.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.datasets.scenes.render import occluded_fraction
from pipelines.datasets.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    HEIGHT,
    MAX_ANGLE,
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
"""Numbers of things in a scene; repetitions are weights."""
OVERLAP_SHARE = 0.4
"""Fraction of scenes in which one thing is partly in front of another."""
OVERLAP = (0.48, 0.62)
"""Range of the closeness of overlapping things: one is clearly behind the other, and both are recognisable."""
OCCLUDED = (0.06, 0.5)
"""Range of the fraction of a thing that the thing in front of it covers."""
SWAP_WEIGHTS = (45, 15, 10, 30)
"""Weights of SWAP_KINDS: most pairs exchange an attribute that one region shows, some only positions."""
EDGE = 3.0
"""Width in pixels of the margin that is kept free."""


SceneGroup = tuple[Scene, Scene | None, Swap | None]
"""A minimal pair and how its scenes differ, or a single scene."""


@dataclass(frozen=True)
class Draft:
    """A scene without captions; `counterpart` is the position of its counterpart in the split."""

    scene: Scene
    counterpart: int | None = None
    swap: Swap | None = None


def draw_split(rng: random.Random, size: int, pair_fraction: float, used: set[object]) -> list[Draft]:
    """Returns `size` scenes in random order, `pair_fraction` of them in minimal pairs; adds their keys to `used`."""
    pairs = int(size * pair_fraction / 2)
    # The kinds are drawn first: otherwise, kinds for which fewer scenes qualify would become rare.
    kinds = [*rng.choices(SWAP_KINDS, SWAP_WEIGHTS, k=pairs), *[None] * (size - 2 * pairs)]
    groups: list[SceneGroup] = []
    for kind in kinds:
        group = None
        while group is None:
            group = _draw_group(rng, kind, used)
        groups.append(group)
    return _arrange(rng, size, groups)


def _draw_group(rng: random.Random, kind: SwapKind | None, used: set[object]) -> SceneGroup | None:
    """Returns a minimal pair of this kind, or a single scene if `kind` is None; None if the draw has to be repeated."""
    scene = draw_scene(rng)
    found = draw_counterpart(rng, scene, kind) if kind else None
    keys = {scene.key, found[0].key} if found else {scene.key}
    if (kind and not found) or keys & used:
        return None
    used |= keys
    return (scene, *found) if found else (scene, None, None)


def draw_scene(rng: random.Random) -> Scene:
    """Returns a scene of two to four things that differ in (colour, shape) and are clearly apart or overlapping."""
    count = rng.choice(COUNTS)
    while True:
        overlap = rng.random() < OVERLAP_SHARE
        things = [_draw_thing(rng) for _ in range(count)]
        if len({thing.name for thing in things}) < count:
            continue
        if overlap and {things[0].size, things[1].size} == {"small"}:
            continue  # overlapping small things are hard to recognise, even for people
        for _ in range(100):
            placed = _place(rng, things, overlap)
            if fits(placed) and occludes_in_range(placed):
                return Scene(rng.choice(BACKGROUNDS), tuple(placed), rng.getrandbits(48))


def draw_counterpart(rng: random.Random, scene: Scene, kind: SwapKind) -> tuple[Scene, Swap] | None:
    """Returns a counterpart that differs in one exchange, with its own background grain and rotations.

    Returns None if the two things drawn for the exchange do not give a valid scene.
    """
    first, second = rng.sample(range(len(scene.things)), 2)
    a, b = scene.things[first], scene.things[second]
    if kind == "place":
        useful = bool(clear_relations(scene, first, second))
    else:
        # The things must differ in the swapped attribute and, if it is the colour, also in shape.
        useful = getattr(a, kind) != getattr(b, kind) and (kind != "colour" or a.shape != b.shape)
    swap = Swap(first, second, kind)
    counterpart = swap.apply(scene)
    names = {thing.name for thing in counterpart.things}
    if not useful or len(names) < len(counterpart.things) or not fits(counterpart.things):
        return None
    rotated = tuple(replace(thing, angle=_draw_angle(rng)) for thing in counterpart.things)
    if not occludes_in_range(rotated):
        return None
    return replace(counterpart, things=rotated, seed=rng.getrandbits(48)), swap


def fits(things: Sequence[Thing]) -> bool:
    """Returns whether all things are inside the picture, and clearly apart except for at most one overlapping pair."""
    for thing in things:
        reach = thing.radius * REACH + EDGE
        if not (reach <= thing.x <= WIDTH - reach and reach <= thing.y <= HEIGHT - reach):
            return False
    close = [closeness(a, b) for i, a in enumerate(things) for b in things[:i]]
    touching = [c for c in close if c < 1.1]
    return len(touching) <= 1 and all(OVERLAP[0] - 1e-9 <= c <= OVERLAP[1] + 1e-9 for c in touching)


def occludes_in_range(things: Sequence[Thing]) -> bool:
    """Returns whether overlapping things occlude each other visibly and remain recognisable (`OCCLUDED`)."""
    pairs = ((back, front) for i, front in enumerate(things) for back in things[:i])
    return all(
        OCCLUDED[0] <= occluded_fraction(back, front) <= OCCLUDED[1]
        for back, front in pairs
        if closeness(back, front) < 1
    )


def _draw_thing(rng: random.Random) -> Thing:
    size = rng.choices(SIZES, (4, 6))[0]
    return Thing(rng.choice(SHAPES), rng.choice(COLOURS), size, rng.choice(TEXTURES), 0.0, 0.0, _draw_angle(rng))


def _draw_angle(rng: random.Random) -> float:
    return round(rng.uniform(-MAX_ANGLE, MAX_ANGLE), 1)


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
        # Rounding to hundredths of a pixel removes differences of sin and cos between platforms.
        placed.append(replace(thing, x=round(x, 2), y=round(y, 2)))
    return placed


def _arrange(rng: random.Random, size: int, groups: list[SceneGroup]) -> list[Draft]:
    """Assigns random positions, so that the order of the scenes contains no information about the pairs."""
    positions = list(range(size))
    rng.shuffle(positions)
    drafts: dict[int, Draft] = {}
    for scene, counterpart, swap in groups:
        first = positions.pop()
        if counterpart is None:
            drafts[first] = Draft(scene)
            continue
        second = positions.pop()
        drafts[first] = Draft(scene, second, swap)
        drafts[second] = Draft(counterpart, first, swap)
    return [drafts[position] for position in range(size)]
