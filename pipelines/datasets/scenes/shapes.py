"""Geometry on the unit disc: outlines of the shapes and polygons of the textures.

Textures scale with the disc, so a small thing has as many stripes as a large one.
"""

import math
from functools import cache

Point = tuple[float, float]
Outline = list[Point]


@cache
def outlines(shape: str) -> list[Outline]:
    """Returns the polygons of a shape around (0, 0), y down: the filled outline and, if there is one, the hole.

    Rotated by at most `world.MAX_ANGLE`, no point is further from the centre along x or y than `world.REACH`.
    """
    match shape:
        case "circle":
            return [_arc(0, 0, 0.94, 0, 360)]
        case "square":
            return [[(-0.79, -0.79), (0.79, -0.79), (0.79, 0.79), (-0.79, 0.79)]]
        case "triangle":
            return [[_polar(1.1, -90), _polar(1.1, 30), _polar(1.1, 150)]]
        case "star":
            return [[_polar(1.1 if k % 2 == 0 else 0.52, -90 + 36 * k) for k in range(10)]]
        case "heart":
            return [_heart()]
        case "ring":
            return [_arc(0, 0, 0.98, 0, 360), _arc(0, 0, 0.5, 0, 360)]
        case "cross":
            return [_cross(1.0, 0.36)]
        case "crescent":
            return [_crescent()]
    raise ValueError(f"shape {shape!r} is unknown; add its outline to pipelines/datasets/scenes/shapes.py")


@cache
def pattern_polygons(texture: str) -> list[Outline]:
    """Returns the polygons that cover the disc with stripes, dots or checks; none for a plain texture."""
    match texture:
        case "plain":
            return []
        case "striped":
            return [_rectangle(0.4 * k - 0.08, -1.3, 0.16, 2.6) for k in range(-3, 4)]
        case "dotted":
            return [
                _arc(0.4 * k + 0.2 * (row % 2), 0.4 * row, 0.12, 0, 360, 14)
                for row in range(-3, 4)
                for k in range(-3, 4)
            ]
        case "checked":
            return [
                _rectangle(0.34 * i, 0.34 * j, 0.34, 0.34)
                for i in range(-4, 4)
                for j in range(-4, 4)
                if (i + j) % 2 == 0
            ]
    raise ValueError(f"texture {texture!r} is unknown; add its polygons to pipelines/datasets/scenes/shapes.py")


def _rectangle(x: float, y: float, wide: float, high: float) -> Outline:
    return [(x, y), (x + wide, y), (x + wide, y + high), (x, y + high)]


def _polar(radius: float, degrees: float) -> Point:
    turn = math.radians(degrees)
    return radius * math.cos(turn), radius * math.sin(turn)


def _arc(x: float, y: float, radius: float, start: float, stop: float, steps: int = 40) -> Outline:
    turns = (start + (stop - start) * k / steps for k in range(steps + 1))
    return [(x + dx, y + dy) for dx, dy in (_polar(radius, turn) for turn in turns)]


def _heart() -> Outline:
    """Returns the heart curve x = 16 sin(t)^3, scaled to the disc."""
    points = []
    for k in range(60):
        t = 2 * math.pi * k / 60
        high = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((16 * math.sin(t) ** 3 / 16.5, -(high + 2.5) / 16.5))
    return points


def _cross(arm: float, half: float) -> Outline:
    corner = [(half, -half), (arm, -half), (arm, half), (half, half)]
    turned = [corner]
    for _ in range(3):
        turned.append([(-y, x) for x, y in turned[-1]])
    return [point for quarter in turned for point in quarter]


def _crescent() -> Outline:
    """Returns a disc minus a smaller disc on its right: two arcs that meet at the tips."""
    radius, bite, away = 1.05, 0.82, 0.6
    meet_x = (radius**2 - bite**2 + away**2) / (2 * away)
    meet_y = math.sqrt(radius**2 - meet_x**2)
    outer = math.degrees(math.atan2(meet_y, meet_x))
    inner = math.degrees(math.atan2(meet_y, meet_x - away))
    back = _arc(0, 0, radius, outer, 360 - outer)
    front = _arc(away, 0, bite, 360 - inner, inner)
    # Shifted right, so that the crescent rather than the original disc is centred.
    return [(x + 0.22, y) for x, y in back + front]
