"""Outlines and textures by their areas, which are known from geometry, and within the disc that boxes rely on."""

import math

import pytest

from pipelines.datasets.scenes.shapes import outlines, pattern_polygons
from pipelines.datasets.scenes.world import MAX_ANGLE, REACH, SHAPES, TEXTURES


def area(points):
    """Returns the area of a polygon by the shoelace formula."""
    turned = zip(points, [*points[1:], points[0]], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in turned)) / 2


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_fills_its_disc(shape):
    filled, *holes = outlines(shape)
    assert len(holes) == (shape == "ring")
    for side in range(2):
        values = [point[side] for point in filled]
        assert min(values) < -0.75
        assert max(values) > 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_stays_within_reach_at_every_angle(shape):
    """Things are drawn on patches, and placed with a margin, that rely on it."""
    turns = [math.radians(MAX_ANGLE * k / 20) for k in range(-20, 21)]
    rotated = [
        (x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn))
        for x, y in outlines(shape)[0]
        for turn in turns
    ]
    furthest = max(max(abs(x), abs(y)) for x, y in rotated)
    assert furthest <= REACH


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("circle", math.pi * 0.94**2),
        ("square", 1.58**2),
        ("triangle", 3 * math.sqrt(3) / 4 * 1.1**2),
        ("star", 10 / 2 * 1.1 * 0.52 * math.sin(math.radians(36))),
        ("cross", 4 * 2 * 0.36 * (1 - 0.36) + (2 * 0.36) ** 2),
    ],
)
def test_areas_are_those_of_geometry(shape, expected):
    assert area(outlines(shape)[0]) == pytest.approx(expected, rel=0.01)


def test_the_ring_has_a_hole_and_the_crescent_a_bite():
    outer, hole = outlines("ring")
    assert area(outer) - area(hole) == pytest.approx(math.pi * (0.98**2 - 0.5**2), rel=0.01)
    (crescent,) = outlines("crescent")
    disc, bite, away = 1.05, 0.82, 0.6
    to_disc = math.acos((away**2 + disc**2 - bite**2) / (2 * away * disc))
    to_bite = math.acos((away**2 + bite**2 - disc**2) / (2 * away * bite))
    lens = disc**2 * to_disc + bite**2 * to_bite - away * disc * math.sin(to_disc)
    assert area(crescent) == pytest.approx(math.pi * disc**2 - lens, rel=0.01)


@pytest.mark.parametrize(
    ("texture", "fraction"),
    [("plain", 0), ("striped", 0.4), ("dotted", math.pi * 0.12**2 / 0.4**2), ("checked", 0.5)],
)
def test_a_texture_covers_its_fraction_of_the_disc(texture, fraction):
    """Counted on a grid of the square within the disc, whose side is a multiple of no period."""
    polygons = pattern_polygons(texture)
    grid = [(-0.95 + 0.0191 * i, -0.95 + 0.0191 * j) for i in range(100) for j in range(100)]
    covered = sum(any(inside(point, polygon) for polygon in polygons) for point in grid[::3])
    assert covered / len(grid[::3]) == pytest.approx(fraction, abs=0.06)


def inside(point, polygon):
    """Returns whether a convex polygon contains a point."""
    x, y = point
    sides = {
        (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0
        for (x0, y0), (x1, y1) in zip(polygon, [*polygon[1:], polygon[0]], strict=True)
        if (x0, y0) != (x1, y1)
    }
    return len(sides) == 1


@pytest.mark.parametrize("function", [outlines, pattern_polygons])
def test_unknown_names_are_an_error(function):
    with pytest.raises(ValueError, match="'blob' is unknown; add its"):
        function("blob")


def test_every_texture_has_polygons_but_the_plain_one():
    assert [texture for texture in TEXTURES if not pattern_polygons(texture)] == ["plain"]
