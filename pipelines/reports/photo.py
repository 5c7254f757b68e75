"""Photos with labelled boxes as HTML images that need no other file."""

import base64
import html
import io
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from infra.errors import UserError
from pipelines.datasets.decode import PhotoError, decode_photo
from pipelines.datasets.http_download import DownloadLimits, SilentServers
from pipelines.datasets.photo_sources import read_photo

COLOURS = ("#d62728", "#1a7f37", "#2f55d4", "#b35900", "#8e24aa", "#00798c", "#ad1457", "#6d4c41")
"""Colours of the boxes in turn, dark enough for white labels."""
MAX_ASPECT = 1.5
"""Largest height of a photo on the page, as a multiple of the given width; a taller photo is shown narrower."""
TEXT = 13
"""Font size of the labels in pixels."""
LIMITS = DownloadLimits(attempts=1, deadline_s=20, silence_s=5)
"""Limits of the download of a photo: a page is complete without it."""

LabelledBox = tuple[str, Sequence[float]]
"""Label of a box, and its edges x0 y0 x1 y1 in pixels of the original upright photo."""


def photo_html(uri: str, boxes: Sequence[LabelledBox], width: int) -> str:
    """Returns an `<img>` of the photo with its boxes, at most `width` pixels wide.

    For a photo that cannot be read it returns a `<p>` with the URI and the reason.
    """
    try:
        with _web_servers().photo(uri):
            photo = decode_photo(read_photo(uri, LIMITS))
    except (PhotoError, OSError, UserError) as error:
        return f"<p class=gone>{html.escape(uri)}: {html.escape(str(error))}</p>"
    scale = min(width / photo.width, MAX_ASPECT * width / photo.height)
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    image = Image.fromarray(photo.pixels).resize(size, Image.Resampling.LANCZOS)
    draw_boxes(image, [(label, [edge * scale for edge in box]) for label, box in boxes])
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<img alt='{html.escape(uri)}' width={size[0]} height={size[1]} src='data:image/jpeg;base64,{data}'>"


def draw_boxes(image: Image.Image, boxes: Sequence[LabelledBox]) -> None:
    """Draws boxes (in pixels of this image), the first on top, with labels that do not cover each other if possible."""
    draw = ImageDraw.Draw(image)
    coloured = [(COLOURS[i % len(COLOURS)], label, box) for i, (label, box) in enumerate(boxes)]
    for colour, _, box in reversed(coloured):
        draw.rectangle([round(edge) for edge in box], outline=colour, width=2)
    taken: list[tuple[float, float, float, float]] = []
    for colour, label, box in coloured:
        rectangle = _label_rectangle(draw, label, box, image.size, taken)
        taken.append(rectangle)
        draw.rectangle(rectangle, fill=colour)
        draw.text((rectangle[0] + 3, rectangle[1] + 1), label, fill="white", font=_font())


def _label_rectangle(
    draw: ImageDraw.ImageDraw,
    label: str,
    box: Sequence[float],
    size: tuple[int, int],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """Returns a free rectangle within the image: one at a corner of the box, otherwise along its left edge."""
    wide, high = draw.textlength(label, font=_font()) + 6, TEXT + 5
    x0, y0, x1, y1 = box
    corners = [(x0, y0), (x0, y1 - high), (x1 - wide, y0), (x1 - wide, y1 - high), (x0, y0 - high), (x0, y1)]
    corners += [(x0, y0 + row * high) for row in range(1, 12)]
    rectangles = []
    for x, y in corners:
        left, top = max(0, min(x, size[0] - wide)), max(0, min(y, size[1] - high))
        rectangles.append((left, top, left + wide, top + high))
    return next((r for r in rectangles if not any(_overlap(r, other) for other in taken)), rectangles[0])


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@cache
def _web_servers() -> SilentServers:
    """Those of all pages of this process, so that a page does not wait for a silent server once for each photo."""
    return SilentServers()


@cache
def _font() -> "ImageFont.ImageFont | ImageFont.FreeTypeFont":
    return ImageFont.load_default(TEXT)
