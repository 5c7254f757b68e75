"""Decodes a photo to upright RGB pixels, or raises PhotoError with the reason why it cannot.

Invariant: the same bytes give the same pixels, or the same reason, on every run.
"""

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

LONGEST_SIDE = 1333
"""Longest side in pixels; larger photos are downscaled (antialiased), so that the photos of a shard fit in memory.

It is the largest input of common detectors (800 x 1333). The photos of COCO and Flickr30K are smaller and not changed.
"""

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
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise PhotoError("the file is empty")
    try:
        with warnings.catch_warnings():
            # Pillow warns about metadata it skips and above 89 megapixels; above twice that it raises.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
                image.draft(None, (LONGEST_SIDE, LONGEST_SIDE))  # a large JPEG decodes at a fraction of its size
                image.load()
                transpose = _transpose(image)
                upright = _rgb(image) if transpose is None else _rgb(image).transpose(transpose)
                upright.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    except UnidentifiedImageError as error:
        raise PhotoError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise PhotoError("too many pixels (decompression bomb)") from error
    except PhotoError:
        raise
    except Exception as error:
        raise PhotoError("image data is truncated or corrupt") from error
    if transpose in _SWAPS_SIDES:
        width, height = height, width
    return DecodedPhoto(width, height, np.asarray(upright))


def _transpose(image: "Image.Image") -> "Image.Transpose | None":
    """Returns the transpose for the EXIF orientation (tag 0x0112); None if the photo is upright or its EXIF corrupt."""
    from PIL import Image

    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001 - corrupt metadata do not make a photo unusable
        return None
    return Image.Transpose(_TRANSPOSES[orientation]) if orientation in _TRANSPOSES else None


def _rgb(image: "Image.Image") -> "Image.Image":
    """Converts any mode to RGB: 16-bit values keep their high byte, transparent pixels become white."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise PhotoError("grey values of more than 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise PhotoError("pixels are floating-point numbers")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
