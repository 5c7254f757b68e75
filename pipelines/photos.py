"""Fetching and decoding one photo: pixels, or the reason why there are none."""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class PhotoError(Exception):
    """Why a photo is rejected: a short sentence that is the same on every run."""


@dataclass(frozen=True)
class DecodedPhoto:
    """An upright RGB photo, uint8 H x W x 3, and the sha256 of the file it came from."""

    pixels: NDArray[np.uint8]
    sha256: str


def load_photo(path: Path) -> DecodedPhoto:
    """Reads and decodes a photo, turned as its EXIF orientation says. Raises PhotoError with the reason."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        data = path.read_bytes()
    except OSError as error:
        raise PhotoError(f"cannot be read: {error.strerror}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                upright = ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError as error:
        raise PhotoError("not an image of a known format") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PhotoError("more pixels than a photo has (decompression bomb)") from error
    # Pillow's decoders raise these, and only these, for damaged data of a known format.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
        raise PhotoError("image data is truncated or corrupt") from error
    return DecodedPhoto(np.asarray(upright), hashlib.sha256(data).hexdigest())
