"""Decodes a photo to upright RGB pixels, or raises PhotoError with the reason why it cannot.

Invariant: the same bytes give the same pixels, or the same reason, on every run.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

LONGEST_SIDE = 1333
"""Longest side in pixels; larger photos are downscaled (antialiased), so that the photos of a shard fit in memory.

It is the largest input of common detectors (800 x 1333). The photos of COCO and Flickr30K are smaller and not changed.
"""

MAX_PIXELS = 100_000_000
"""Largest image that is decoded, in pixels; a JPEG counts as reduced to a fraction of its size while it is decoded.

Decoding takes up to 12 bytes per pixel, in WebP and JPEG 2000 up to 22: one photo takes at most 2.2 GB of memory.
"""

MAX_SCANS = 100
"""Most scans of a JPEG, as libtiff allows. Each is a pass over all pixels; progressive photos have about ten."""
MAX_SEGMENTS = 10_000
"""Most segments of a JPEG. A photo has some dozens, and one for each 64 KB of its metadata."""
MAX_SCANNED_PIXELS = 30 * MAX_PIXELS
"""Most pixels of a JPEG times its scans. 10^9 take about 3 s."""

_JPEG = ("JPEG", "MPO")
"""Formats whose decoder reduces an image by itself."""
_SCALED_GREY = ("JPEG2000", "PNG", "PPM", "TIFF")
"""Formats that define the range of 16-bit grey values. Pillow scales those of JPEG 2000 and PPM to 16 bits."""
_NEARLY_BLACK = 16
"""An image of more than 8 bits per channel without a brighter value (of 255) uses only the low bits of its range."""
_TIFF_BITS, _TIFF_COMPRESSION, _TIFF_PHOTOMETRIC, _TIFF_FILL_ORDER, _TIFF_PLANES = 258, 259, 262, 266, 284
"""TIFF tags: bits per sample; 1 for no compression; 0 for an inverted grey scale; 2 for reversed bits; 2 for planes."""
_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 322, 323

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
"""A marker of a JPEG that starts a segment, or ends the image."""
_JPEG_START, _SCAN, _END = b"\xff\xd8\xff", 0xDA, 0xD9
_TOO_MANY_SCANS = "too many scans or segments of a JPEG"

_TRANSPOSES = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""Maps EXIF orientations to PIL.Image.Transpose: mirrored, 180, flipped, transposed, 270, transverse, 90."""
_SWAPS_SIDES = (5, 4, 6, 2)
"""Transposes that swap width and height."""


class PhotoError(Exception):
    """The reason why a photo is rejected: a short phrase that is the same on every run."""


@dataclass(frozen=True)
class DecodedPhoto:
    """A decoded photo: its original upright size in pixels, and its pixels, downscaled to at most LONGEST_SIDE."""

    width: int
    height: int
    pixels: NDArray[np.uint8]
    """RGB, h x w x 3, with the longer side at most LONGEST_SIDE."""


def decode_photo(data: bytes) -> DecodedPhoto:
    """Decodes a photo and applies its EXIF orientation; raises PhotoError with the reason if that is impossible."""
    from PIL import Image

    if not data:
        raise PhotoError("the file is empty")
    with _photo_errors():
        scans = _count_scans(data) if data.startswith(_JPEG_START) else 0
        image = Image.open(io.BytesIO(data), formats=_formats())
    with _photo_errors(), image:
        size = image.size
        if scans * image.width * image.height > MAX_SCANNED_PIXELS:
            raise PhotoError(_TOO_MANY_SCANS)
        image.draft(None, (LONGEST_SIDE, LONGEST_SIDE))  # a large JPEG decodes at a fraction of its size
        return _decode(image, size)


def decode_image(image: "Image.Image") -> DecodedPhoto:
    """Returns an opened image as `decode_photo` returns a file, without changing it; raises PhotoError likewise.

    A JPEG that is not loaded yet is read from its file, so that it is reduced while it is decoded, as a file is. The
    pixels of a larger one that is loaded differ slightly from those.
    """
    with _photo_errors():
        data = unloaded_file(image) if image.format in _JPEG else None
        return _decode(image, image.size, keep=True) if data is None else decode_photo(data)


def unloaded_file(image: "Image.Image") -> bytes | None:
    """Returns the content of the file of an opened image; None unless it is at its first frame and not loaded yet."""
    file = getattr(image, "fp", None)
    tiles, changes = getattr(image, "tile", ()), getattr(image, "decoderconfig", ())
    if file is None or getattr(file, "closed", False) or not tiles or changes or image.tell() != 0:
        return None
    position = file.tell()
    try:
        file.seek(0)
        return bytes(file.read())
    finally:
        file.seek(position)


@contextmanager
def _photo_errors() -> Iterator[None]:
    """Turns what Pillow raises into a PhotoError, and hides its warnings."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns about metadata it skips and above 89 megapixels; above twice that it raises.
            warnings.simplefilter("ignore")
            yield
    except UnidentifiedImageError as error:
        raise PhotoError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise PhotoError("too many pixels (decompression bomb)") from error
    except PhotoError:
        raise
    except MemoryError as error:
        raise PhotoError("decoding it needs too much memory") from error
    except Exception as error:
        raise PhotoError("image data is truncated or corrupt") from error


def _count_scans(jpeg: bytes) -> int:
    """Returns the number of scans of a JPEG. Raises PhotoError for more of them, or of segments, than a photo has.

    Pillow and libjpeg take long for these: a scan of few bytes may be a pass over all pixels.
    """
    at, segments, scans = 0, 0, 0
    while (marker := _MARKER.search(jpeg, at)) and jpeg[marker.start() + 1] != _END:
        segments, scans = segments + 1, scans + (jpeg[marker.start() + 1] == _SCAN)
        if segments > MAX_SEGMENTS or scans > MAX_SCANS:
            raise PhotoError(_TOO_MANY_SCANS)
        at = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2])
    return scans


@cache
def _formats() -> list[str]:
    """Returns the formats that Pillow decodes by itself. EPS depends on the machine: Pillow runs its Ghostscript."""
    from PIL import Image

    Image.init()
    return [name for name in Image.ID if name != "EPS"]


def _decode(image: "Image.Image", size: tuple[int, int], *, keep: bool = False) -> DecodedPhoto:
    """Decodes an opened image whose original has this width and height. With `keep`, its pixels are not changed."""
    from PIL import Image

    if max(image.width * image.height, _tile_pixels(image)) > MAX_PIXELS:
        raise PhotoError(f"more than {MAX_PIXELS // 10**6} megapixels")
    if _has_misread_planes(image):
        raise PhotoError("an uncompressed TIFF with separate planes, which are read correctly with plain 8 bits only")
    is_deep = _is_deep(image)
    image.load()
    transpose = _transpose(image)
    upright = _rgb(image)
    if is_deep and np.asarray(_rgb(image, background=0)).max() < _NEARLY_BLACK:
        raise PhotoError("only the low bits of its 16-bit values are used, so it would be nearly black")
    if transpose is not None:
        upright = upright.transpose(transpose)
    if keep and upright is image:
        upright = image.copy()
    upright.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    width, height = size[::-1] if transpose in _SWAPS_SIDES else size
    return DecodedPhoto(width, height, np.asarray(upright))


def _is_deep(image: "Image.Image") -> bool:
    """Returns whether an image that is not loaded yet has more than 8 bits per channel, as far as Pillow shows it."""
    tiles = getattr(image, "tile", ())
    arguments = [tile.args for tile in tiles]
    is_deep_ppm = image.format == "PPM" and any(isinstance(each, tuple) and each[-1] > 255 for each in arguments)
    is_deep_sgi = any(tile.codec_name == "SGI16" for tile in tiles)
    return image.mode.startswith("I") or ";16" in str(arguments) or is_deep_ppm or is_deep_sgi


def _tile_pixels(image: "Image.Image") -> int:
    """Returns the pixels of a tile of a TIFF, which may be larger than the image; 0 without tiles."""
    tags = getattr(image, "tag_v2", {})
    sides = tags.get(_TIFF_TILE_WIDTH, 0), tags.get(_TIFF_TILE_HEIGHT, 0)
    return sides[0] * sides[1] if all(isinstance(side, int) for side in sides) else 0


def _has_misread_planes(image: "Image.Image") -> bool:
    """Returns whether an image is a TIFF whose planes Pillow reads as plain values of 8 bits, although they are not.

    It keeps one letter of the raw mode, such as `RGB;16L`, for each plane, unless libtiff unpacks them.
    """
    tags = getattr(image, "tag_v2", {})
    if tags.get(_TIFF_PLANES) != 2 or tags.get(_TIFF_COMPRESSION, 1) != 1:
        return False
    is_plain = tags.get(_TIFF_PHOTOMETRIC) != 0 and tags.get(_TIFF_FILL_ORDER) != 2
    return not (is_plain and {1, 8}.issuperset(tags.get(_TIFF_BITS, (1,))))


def _transpose(image: "Image.Image") -> "Image.Transpose | None":
    """Returns the transpose for the EXIF orientation (tag 0x0112); None if the photo is upright or its EXIF corrupt."""
    from PIL import Image

    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001 - corrupt metadata do not make a photo unusable
        return None
    return Image.Transpose(_TRANSPOSES[orientation]) if orientation in _TRANSPOSES else None


def _rgb(image: "Image.Image", background: int = 255) -> "Image.Image":
    """Converts any mode to RGB: 16-bit values keep their high byte, transparent pixels get the background, white."""
    from PIL import Image

    if image.mode == "F":
        raise PhotoError("pixels are floating-point numbers")
    if image.mode.startswith("I"):
        image = _high_bytes(image, background)
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        opaque = Image.new("RGB", layer.size, (background,) * 3)
        opaque.paste(layer, mask=layer.getchannel("A"))
        return opaque
    return image if image.mode == "RGB" else image.convert("RGB")


def _high_bytes(image: "Image.Image", background: int) -> "Image.Image":
    """Returns the high bytes of grey values of 16 bits, or of the 12 bits of a packed TIFF.

    Raises PhotoError if their range is not known: values of 32 bits, with a sign, or of a scientific format.
    """
    from PIL import Image

    if image.format not in _SCALED_GREY or (image.mode == "I" and image.format != "PPM"):
        raise PhotoError("grey values of more than 8 bits have no defined range")
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_TIFF_BITS, (16,))[0]
    values = np.asarray(image)
    grey = (values >> (bits - 8)).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == 0:
        grey = 255 - grey
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = background
    return Image.fromarray(grey)
