"""A scene as a picture. Things are drawn `FINE` times larger on their own patch, then reduced: soft edges
without drawing the whole picture large. Light comes from the top left, shadows fall to the bottom right.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from pipelines.datasets.scenes.backgrounds import Rgb, draw_background
from pipelines.datasets.scenes.shapes import Point, outlines, pattern_polygons
from pipelines.datasets.scenes.world import HEIGHT, REACH, WIDTH, Scene, Thing

FINE = 3
"""Supersampling: sub-pixels along one side of a pixel."""
RIM = 3
"""Width in pixels of the rim, half of which the mask cuts off."""
SHADOW_OFFSET = (4, 6)
SHADOW_BLUR = 3
SHADOW_DEPTH = 0.5
"""Shadow: offset and blur in pixels, depth as a share of black."""

PAINT: dict[str, tuple[Rgb, Rgb, Rgb]] = {
    "red": ((216, 30, 36), (255, 160, 150), (110, 8, 16)),
    "yellow": ((252, 212, 20), (176, 128, 0), (140, 100, 0)),
    "green": ((20, 170, 60), (168, 240, 160), (0, 82, 28)),
    "blue": ((30, 82, 226), (156, 198, 255), (8, 30, 110)),
    "purple": ((146, 44, 190), (228, 170, 250), (70, 10, 98)),
    "white": ((250, 250, 250), (176, 180, 192), (120, 122, 130)),
    "black": ((26, 26, 30), (124, 124, 132), (88, 88, 98)),
}
"""Colour -> (body, pattern, rim). Patterns are tints of the body, so a striped red thing stays red."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """The image and, thing by thing, the box (x0, y0, x1, y1 in pixels, ends excluded) of all it covers.

    A box is that of the whole thing, also where another one hides a part of it; shadows do not count.
    """

    image: Image.Image
    boxes: tuple[Box, ...]


def render(scene: Scene, *, shadows: bool = True) -> Picture:
    """Draws the scene, RGB, WIDTH x HEIGHT: the same pixels for the same scene, always."""
    image = draw_background(scene.background, scene.seed)
    boxes = []
    for thing in scene.things:
        mask = _mask(thing)
        soft, corner = mask.reduce(FINE), _corner(thing)
        if shadows:
            _cast_shadow(image, soft, corner)
        image.paste(_body(thing, mask.size), corner, soft)
        boxes.append(_box(soft, corner))
    return Picture(image, tuple(boxes))


def find_boxes(scene: Scene) -> tuple[Box, ...]:
    """The boxes of `render`, without drawing the picture."""
    return tuple(_box(_mask(thing).reduce(FINE), _corner(thing)) for thing in scene.things)


def hidden_share(back: Thing, front: Thing) -> float:
    """The share of `back` that `front` covers when both are drawn: holes and horns of the shapes count."""
    whole, cover = _silhouette(back), _silhouette(front)
    return _area(ImageChops.darker(whole, cover)) / _area(whole)


def _silhouette(thing: Thing) -> Image.Image:
    canvas = Image.new("L", (WIDTH, HEIGHT))
    canvas.paste(_mask(thing).reduce(FINE), _corner(thing))
    return canvas


def _area(mask: Image.Image) -> int:
    """Pixels that are more than half covered."""
    return sum(mask.histogram()[128:])


def _box(mask: Image.Image, corner: tuple[int, int]) -> Box:
    around = mask.getbbox()
    assert around is not None, "a thing has no pixels"
    return corner[0] + around[0], corner[1] + around[1], corner[0] + around[2], corner[1] + around[3]


def _half(thing: Thing) -> int:
    """Half the side of the thing's patch, in pixels."""
    return math.ceil(thing.radius * REACH) + 2


def _corner(thing: Thing) -> tuple[int, int]:
    return round(thing.x) - _half(thing), round(thing.y) - _half(thing)


def _turned(thing: Thing, points: Iterable[Point]) -> list[tuple[int, int]]:
    """Points of the unit disc, turned with the thing, in whole sub-pixels of its patch."""
    middle, scale, turn = _half(thing) * FINE, thing.radius * FINE, math.radians(thing.angle)
    right, down = scale * math.cos(turn), scale * math.sin(turn)
    return [(round(middle + x * right - y * down), round(middle + x * down + y * right)) for x, y in points]


def _mask(thing: Thing) -> Image.Image:
    side = 2 * _half(thing) * FINE
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    for hole, outline in enumerate(outlines(thing.shape)):
        draw.polygon(_turned(thing, outline), fill=0 if hole else 255)
    return mask


def _body(thing: Thing, size: tuple[int, int]) -> Image.Image:
    """The thing's colours on a patch of `size` sub-pixels, reduced to pixels; the mask cuts it out later."""
    body, pattern, rim = PAINT[thing.colour]
    patch = Image.new("RGB", size, body)
    draw = ImageDraw.Draw(patch)
    for polygon in pattern_polygons(thing.texture):
        draw.polygon(_turned(thing, polygon), fill=pattern)
    for outline in outlines(thing.shape):
        points = _turned(thing, outline)
        # Rounding the joints costs a pie slice each: only corners need it, not the chords of an arc.
        joint = "curve" if len(points) <= 12 else None
        draw.line([*points, points[0], points[1]], fill=rim, width=RIM * FINE, joint=joint)
    return _lit(patch.reduce(FINE))


def _lit(patch: Image.Image) -> Image.Image:
    """Brighter at the top left, darker towards the bottom right."""
    down = Image.linear_gradient("L").resize(patch.size)
    fall = Image.blend(down, down.transpose(Image.Transpose.ROTATE_90), 0.4)
    shade = fall.point([255 - value * 80 // 255 for value in range(256)])
    glow = fall.point([max(0, 60 - value * 130 // 255) for value in range(256)])
    dimmed = ImageChops.multiply(patch, Image.merge("RGB", (shade, shade, shade)))
    return ImageChops.screen(dimmed, Image.merge("RGB", (glow, glow, glow)))


def _cast_shadow(image: Image.Image, mask: Image.Image, corner: tuple[int, int]) -> None:
    pad = 3 * SHADOW_BLUR
    dark = Image.new("L", (mask.width + 2 * pad, mask.height + 2 * pad))
    dark.paste(mask.point([int(value * SHADOW_DEPTH) for value in range(256)]), (pad, pad))
    dark = dark.filter(ImageFilter.BoxBlur(SHADOW_BLUR))
    where = (corner[0] + SHADOW_OFFSET[0] - pad, corner[1] + SHADOW_OFFSET[1] - pad)
    image.paste(Image.new("RGB", dark.size, (12, 10, 16)), where, dark)
