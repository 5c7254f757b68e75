"""Definition of a scene: a few things with attributes on a background, and the spatial relations between them.

Lengths are pixels of the picture, x to the right and y down. The things of a scene are in drawing order: the last one
is in front.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

WIDTH, HEIGHT = 320, 240

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "crescent")
COLOURS = ("red", "yellow", "green", "blue", "purple", "white", "black")
TEXTURES = ("plain", "striped", "dotted", "checked")
SIZES = ("small", "large")
BACKGROUNDS = ("grass", "wood", "bricks", "night", "sand", "sea")
ATTRIBUTES = ("size", "texture", "colour", "shape")
RELATIONS = ("left of", "right of", "above", "below", "in front of", "behind")

RADIUS = {"small": 29.0, "large": 51.0}
"""Radius in pixels of the disc that a thing fills."""
MAX_ANGLE = 18.0
"""Largest rotation of a thing in degrees, in either direction."""
REACH = 1.12
"""Furthest that a shape extends along x or y, in radii, at any of these rotations."""

CLEAR_GAP = 42.0
"""Distance of centres in pixels, along the dominant axis, from which a caption may state the relation."""
TRUE_GAP = 6.0
"""Distance of centres in pixels from which a stated relation counts as true."""

SwapKind = Literal["colour", "texture", "size", "place"]
SWAP_KINDS: tuple[SwapKind, ...] = ("colour", "texture", "size", "place")


@dataclass(frozen=True)
class Thing:
    """One object: four attributes, the centre in pixels and the rotation in degrees."""

    shape: str
    colour: str
    size: str
    texture: str
    x: float
    y: float
    angle: float

    @property
    def radius(self) -> float:
        """Returns the radius in pixels of the disc that the thing fills."""
        return RADIUS[self.size]

    @property
    def name(self) -> tuple[str, str]:
        """Returns (colour, shape), which is unique within a scene."""
        return self.colour, self.shape


@dataclass(frozen=True)
class Scene:
    """Things from back to front on a background; `seed` determines the grain of the background."""

    background: str
    things: tuple[Thing, ...]
    seed: int

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """Returns the combination of the scene: its (colour, shape) pairs, sorted."""
        return tuple(sorted(thing.name for thing in self.things))


@dataclass(frozen=True)
class Swap:
    """How the scenes of a minimal pair differ: `first` and `second` exchange one attribute or their positions."""

    first: int
    second: int
    kind: SwapKind

    def apply(self, scene: Scene) -> Scene:
        """Returns the counterpart of a scene. Positions (`place`) are exchanged by exchanging all attributes."""
        names = ATTRIBUTES if self.kind == "place" else (self.kind,)
        a, b = scene.things[self.first], scene.things[self.second]
        things = list(scene.things)
        things[self.first] = replace(a, **{name: getattr(b, name) for name in names})
        things[self.second] = replace(b, **{name: getattr(a, name) for name in names})
        return replace(scene, things=tuple(things))


def closeness(a: Thing, b: Thing) -> float:
    """Returns the distance of the centres divided by the sum of the radii; below 1 the discs overlap."""
    return math.hypot(a.x - b.x, a.y - b.y) / (a.radius + b.radius)


def relates(scene: Scene, first: int, relation: str, second: int) -> bool:
    """Returns whether `first relation second` counts as true, by a tolerant standard."""
    a, b = scene.things[first], scene.things[second]
    if relation in ("in front of", "behind"):
        return closeness(a, b) < 1 and (first > second) == (relation == "in front of")
    return _offset(a, relation, b) > TRUE_GAP


def clear_relations(scene: Scene, first: int, second: int) -> list[str]:
    """Returns the relations that are unambiguous, which captions may state; all of them are also true."""
    a, b = scene.things[first], scene.things[second]
    if closeness(a, b) < 1:
        return ["in front of" if first > second else "behind"]
    wide, high = abs(a.x - b.x), abs(a.y - b.y)
    if wide >= max(CLEAR_GAP, 1.3 * high):
        return ["left of" if a.x < b.x else "right of"]
    if high >= max(CLEAR_GAP, 1.3 * wide):
        return ["above" if a.y < b.y else "below"]
    return []


def _offset(a: Thing, relation: str, b: Thing) -> float:
    match relation:
        case "left of":
            return b.x - a.x
        case "right of":
            return a.x - b.x
        case "above":
            return b.y - a.y
        case "below":
            return a.y - b.y
    raise ValueError(f"relation is {relation!r}; it must be one of {RELATIONS}")
