"""A photo with labelled boxes, as a piece of HTML that needs no other file."""

import base64
import html
import io
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from infra.errors import UserError
from pipelines.datasets.decode import PhotoError, decode_photo
from pipelines.datasets.photo_sources import read_photo

COLOURS = ("#d62728", "#1a7f37", "#2f55d4", "#b35900", "#8e24aa", "#00798c", "#ad1457", "#6d4c41")
"""One a box, dark enough for white letters."""
TALLEST = 1.5
"""Height of a photo on the page, in widths; a taller one is made narrower."""
TEXT = 13
"""Pixels of the letters."""

LabelledBox = tuple[str, Sequence[float]]
"""What to say of a box, and its edges x0 y0 x1 y1 in pixels of the original upright photo."""


def photo_html(uri: str, boxes: Sequence[LabelledBox], width: int) -> str:
    """An `<img>` of the photo with its boxes, at most `width` pixels wide; URI and reason if it cannot be had."""
    try:
        photo = decode_photo(read_photo(uri))
    except (PhotoError, OSError, UserError) as error:
        return f"<p class=gone>{html.escape(uri)}: {html.escape(str(error))}</p>"
    scale = min(width / photo.width, TALLEST * width / photo.height)
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    image = Image.fromarray(photo.pixels).resize(size, Image.Resampling.LANCZOS)
    draw_boxes(image, [(label, [edge * scale for edge in box]) for label, box in boxes])
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<img alt='{html.escape(uri)}' width={size[0]} height={size[1]} src='data:image/jpeg;base64,{data}'>"


def draw_boxes(image: Image.Image, boxes: Sequence[LabelledBox]) -> None:
    """Draws boxes (in pixels of this image) with their labels, the first on top, labels where none is yet."""
    draw = ImageDraw.Draw(image)
    coloured = [(COLOURS[i % len(COLOURS)], label, box) for i, (label, box) in enumerate(boxes)]
    for colour, _, box in reversed(coloured):
        draw.rectangle([round(edge) for edge in box], outline=colour, width=2)
    taken: list[tuple[float, float, float, float]] = []
    for colour, label, box in coloured:
        place = _label_place(draw, label, box, image.size, taken)
        taken.append(place)
        draw.rectangle(place, fill=colour)
        draw.text((place[0] + 3, place[1] + 1), label, fill="white", font=_font())


def _label_place(
    draw: ImageDraw.ImageDraw,
    label: str,
    box: Sequence[float],
    size: tuple[int, int],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """A rectangle for the label within the image: the first that is free of the corners and then down the left edge."""
    wide, high = draw.textlength(label, font=_font()) + 6, TEXT + 5
    x0, y0, x1, y1 = box
    corners = [(x0, y0), (x0, y1 - high), (x1 - wide, y0), (x1 - wide, y1 - high), (x0, y0 - high), (x0, y1)]
    corners += [(x0, y0 + row * high) for row in range(1, 12)]
    places = []
    for x, y in corners:
        left, top = max(0, min(x, size[0] - wide)), max(0, min(y, size[1] - high))
        places.append((left, top, left + wide, top + high))
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@cache
def _font() -> "ImageFont.ImageFont | ImageFont.FreeTypeFont":
    return ImageFont.load_default(TEXT)
