"""Decoding one photo: upright RGB pixels, or the reason why there are none."""

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

LONGEST_SIDE = 1333
"""Pixels; a larger photo is reduced to it (antialiased) when it is decoded, so that a shard's photos fit in memory.
The largest input of the usual detectors (800 x 1333); COCO's and Flickr's photos are smaller and stay as they are.
"""

_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""EXIF orientation to PIL.Image.Transpose: mirrored, 180, flipped, transposed, 270, transverse, 90."""
_SIDEWAYS = (5, 4, 6, 2)
"""Those that swap width and height."""


class PhotoError(Exception):
    """Why a photo is rejected: a short sentence that is the same on every run."""


@dataclass(frozen=True)
class DecodedPhoto:
    """A photo in its own upright size, and pixels of at most LONGEST_SIDE a side."""

    width: int
    height: int
    pixels: NDArray[np.uint8]
    """RGB, h x w x 3."""


def decode_photo(data: bytes) -> DecodedPhoto:
    """Decodes a photo, turned as its EXIF orientation says. Raises PhotoError with the reason."""
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise PhotoError("the file is empty")
    try:
        with warnings.catch_warnings():
            # Pillow warns of metadata that it skips, and from 89 megapixels on; at twice that it raises.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
                image.draft(None, (LONGEST_SIDE, LONGEST_SIDE))  # a large JPEG decodes at a fraction of its size
                image.load()
                turn = _turn(image)
                upright = _rgb(image) if turn is None else _rgb(image).transpose(turn)
                upright.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    except UnidentifiedImageError as error:
        raise PhotoError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise PhotoError("more pixels than a photo has (decompression bomb)") from error
    except PhotoError:
        raise
    except Exception as error:
        raise PhotoError("image data is truncated or corrupt") from error
    if turn in _SIDEWAYS:
        width, height = height, width
    return DecodedPhoto(width, height, np.asarray(upright))


def _turn(image: "Image.Image") -> "Image.Transpose | None":
    """What makes the photo upright by its EXIF orientation (tag 0x0112); None if it is, or its EXIF is damaged."""
    from PIL import Image

    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001 - a photo with damaged metadata is a photo
        return None
    return Image.Transpose(_TURNS[orientation]) if orientation in _TURNS else None


def _rgb(image: "Image.Image") -> "Image.Image":
    """RGB of any mode: 16 bits keep their high byte, what is transparent becomes white."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit grey; Pillow would clip it at 255
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
