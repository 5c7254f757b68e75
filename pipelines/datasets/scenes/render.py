"""Renders a scene as a picture, with the same pixels for the same scene on every machine.

Each thing is drawn `SUPERSAMPLING` times larger on its own patch and then reduced, which gives smooth edges. Light
comes from the top left, shadows fall to the bottom right.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from pipelines.datasets.scenes.backgrounds import Rgb, draw_background
from pipelines.datasets.scenes.shapes import Point, outlines, pattern_polygons
from pipelines.datasets.scenes.world import HEIGHT, REACH, WIDTH, Scene, Thing

SUPERSAMPLING = 3
"""Sub-pixels along one side of a pixel."""
RIM = 3
"""Width of the rim in pixels; the mask removes its outer part."""
SHADOW_OFFSET = (4, 6)
SHADOW_BLUR = 3
SHADOW_OPACITY = 0.5
"""Shadow: offset and blur in pixels, opacity as a fraction of black."""

PAINT: dict[str, tuple[Rgb, Rgb, Rgb]] = {
    "red": ((216, 30, 36), (255, 160, 150), (110, 8, 16)),
    "yellow": ((252, 212, 20), (176, 128, 0), (140, 100, 0)),
    "green": ((20, 170, 60), (168, 240, 160), (0, 82, 28)),
    "blue": ((30, 82, 226), (156, 198, 255), (8, 30, 110)),
    "purple": ((146, 44, 190), (228, 170, 250), (70, 10, 98)),
    "white": ((250, 250, 250), (176, 180, 192), (120, 122, 130)),
    "black": ((26, 26, 30), (124, 124, 132), (88, 88, 98)),
}
"""Maps a colour to (body, pattern, rim). Patterns are tints of the body, so a striped red thing stays red."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """The image and the box of each thing (x0, y0, x1, y1 in pixels, ends excluded).

    A box encloses the complete thing, including parts that another thing occludes, and excludes its shadow.
    """

    image: Image.Image
    boxes: tuple[Box, ...]


def render(scene: Scene, *, shadows: bool = True) -> Picture:
    """Returns the picture of a scene, RGB, WIDTH x HEIGHT."""
    image = draw_background(scene.background, scene.seed)
    boxes = []
    for thing in scene.things:
        mask = _mask(thing)
        soft, corner = mask.reduce(SUPERSAMPLING), _corner(thing)
        if shadows:
            _cast_shadow(image, soft, corner)
        image.paste(_body(thing, mask.size), corner, soft)
        boxes.append(_box(soft, corner))
    return Picture(image, tuple(boxes))


def find_boxes(scene: Scene) -> tuple[Box, ...]:
    """Returns the boxes of `render` without drawing the picture."""
    return tuple(_box(_mask(thing).reduce(SUPERSAMPLING), _corner(thing)) for thing in scene.things)


def occluded_fraction(back: Thing, front: Thing) -> float:
    """Returns the fraction of the pixels of `back` that `front` covers, from their exact silhouettes."""
    covered, cover = _silhouette(back), _silhouette(front)
    return _area(ImageChops.darker(covered, cover)) / _area(covered)


def _silhouette(thing: Thing) -> Image.Image:
    canvas = Image.new("L", (WIDTH, HEIGHT))
    canvas.paste(_mask(thing).reduce(SUPERSAMPLING), _corner(thing))
    return canvas


def _area(mask: Image.Image) -> int:
    """Returns the number of pixels that are more than half covered."""
    return sum(mask.histogram()[128:])


def _box(mask: Image.Image, corner: tuple[int, int]) -> Box:
    around = mask.getbbox()
    assert around is not None, "a thing has no pixels"
    return corner[0] + around[0], corner[1] + around[1], corner[0] + around[2], corner[1] + around[3]


def _half(thing: Thing) -> int:
    """Returns half the side of the thing's patch in pixels."""
    return math.ceil(thing.radius * REACH) + 2


def _corner(thing: Thing) -> tuple[int, int]:
    return round(thing.x) - _half(thing), round(thing.y) - _half(thing)


def _rotated(thing: Thing, points: Iterable[Point]) -> list[tuple[int, int]]:
    """Maps points of the unit disc to integer sub-pixels of the thing's patch, rotated with the thing."""
    middle, scale, turn = _half(thing) * SUPERSAMPLING, thing.radius * SUPERSAMPLING, math.radians(thing.angle)
    right, down = scale * math.cos(turn), scale * math.sin(turn)
    return [(round(middle + x * right - y * down), round(middle + x * down + y * right)) for x, y in points]


def _mask(thing: Thing) -> Image.Image:
    side = 2 * _half(thing) * SUPERSAMPLING
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    for hole, outline in enumerate(outlines(thing.shape)):
        draw.polygon(_rotated(thing, outline), fill=0 if hole else 255)
    return mask


def _body(thing: Thing, size: tuple[int, int]) -> Image.Image:
    """Returns the thing's colours on a patch of `size` sub-pixels, reduced to pixels and not yet masked."""
    body, pattern, rim = PAINT[thing.colour]
    patch = Image.new("RGB", size, body)
    draw = ImageDraw.Draw(patch)
    for polygon in pattern_polygons(thing.texture):
        draw.polygon(_rotated(thing, polygon), fill=pattern)
    for outline in outlines(thing.shape):
        points = _rotated(thing, outline)
        # Round joints are slow to draw and only needed at corners, not between the chords of an arc.
        joint = "curve" if len(points) <= 12 else None
        draw.line([*points, points[0], points[1]], fill=rim, width=RIM * SUPERSAMPLING, joint=joint)
    return _lit(patch.reduce(SUPERSAMPLING))


def _lit(patch: Image.Image) -> Image.Image:
    """Brightens a patch at the top left and darkens it towards the bottom right."""
    down = Image.linear_gradient("L").resize(patch.size)
    fall = Image.blend(down, down.transpose(Image.Transpose.ROTATE_90), 0.4)
    shade = fall.point([255 - value * 80 // 255 for value in range(256)])
    glow = fall.point([max(0, 60 - value * 130 // 255) for value in range(256)])
    dimmed = ImageChops.multiply(patch, Image.merge("RGB", (shade, shade, shade)))
    return ImageChops.screen(dimmed, Image.merge("RGB", (glow, glow, glow)))


def _cast_shadow(image: Image.Image, mask: Image.Image, corner: tuple[int, int]) -> None:
    pad = 3 * SHADOW_BLUR
    dark = Image.new("L", (mask.width + 2 * pad, mask.height + 2 * pad))
    dark.paste(mask.point([int(value * SHADOW_OPACITY) for value in range(256)]), (pad, pad))
    dark = dark.filter(ImageFilter.BoxBlur(SHADOW_BLUR))
    where = (corner[0] + SHADOW_OFFSET[0] - pad, corner[1] + SHADOW_OFFSET[1] - pad)
    image.paste(Image.new("RGB", dark.size, (12, 10, 16)), where, dark)
