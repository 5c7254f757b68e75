"""Thumbnails of the photos of an index, read from where they were extracted."""

import io
from dataclasses import dataclass

from infra.errors import LocationError, UserError
from pipelines.datasets.decode import PhotoError, decode_photo
from pipelines.datasets.http_download import DownloadLimits
from pipelines.datasets.photo_sources import read_photo
from pipelines.service.errors import ServiceError

SIDE = 480
"""Longest side of a thumbnail in pixels."""
LIMITS = DownloadLimits(attempts=1, deadline_s=8, silence_s=4)
"""Limits of the download of a photo: results are complete without it."""


@dataclass(frozen=True)
class Thumbnail:
    """A photo scaled down, and its original size in pixels, in which boxes are given."""

    jpeg: bytes
    width: int
    height: int


def read_thumbnail(uri: str) -> Thumbnail:
    """Returns the thumbnail of a photo. Raises ServiceError, without the location, if the photo cannot be read."""
    from PIL import Image

    try:
        photo = decode_photo(read_photo(uri, LIMITS))
    except (PhotoError, LocationError) as error:
        raise ServiceError(404, "the photo cannot be read where it was extracted", "key") from error
    except (OSError, UserError) as error:
        raise ServiceError(503, "the store of the photo cannot be read; try again", "key", retry_after_s=5) from error
    image, buffer = Image.fromarray(photo.pixels), io.BytesIO()
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    image.save(buffer, "JPEG", quality=85)
    return Thumbnail(buffer.getvalue(), photo.width, photo.height)
