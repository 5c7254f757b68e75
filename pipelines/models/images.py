"""Reads the images that a registered model is given: bytes, base64 text, paths, URIs, PIL images and RGB arrays.

They are decoded by the rules of the extraction (pipelines/datasets/decode.py), so that a model sees the pixels that its
training features were extracted from.
"""

import base64
import hashlib
import os
import re
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from infra.redaction import redact
from pipelines.datasets.decode import DecodedPhoto, PhotoError, decode_image, decode_photo, unloaded_file
from pipelines.datasets.http_download import DownloadLimits, SilentServers

KINDS = "bytes, base64 text, a path, a URI, a PIL image or an RGB array"
DOWNLOAD_S = 30.0
"""Seconds for the download of an image; a caller waits for it."""
_MIN_BASE64 = 32
"""Characters; the smallest WebP file has 26 bytes, 36 characters. Few paths of so many characters have no dot."""
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/\s]++|[A-Za-z0-9_\-\s]++)={0,2}+\s*+")
"""The two alphabets of RFC 4648; the one for URLs has no `/`, so it is not taken for a path.

The quantifiers are possessive: with others, the time for a text that does not match grows with its square.
"""


def image_error(value: Any) -> str:
    """Returns why a value cannot be an image, or an empty string; nothing is read or decoded."""
    if isinstance(value, np.ndarray):
        valid = value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3 and value.size
        return "" if valid else f"is an array of {value.dtype} {value.shape}; give RGB, uint8 (height, width, 3)"
    if isinstance(value, str) and not value.strip():
        return f"is empty text; give {KINDS}"
    if _is_pil(value):
        return "is a closed PIL image; give one whose file is open, or its path" if _is_closed(value) else ""
    if isinstance(value, bytes | bytearray | memoryview | str | os.PathLike):
        return ""
    return f"is {type(value).__name__}; give {KINDS}"


def image_key(value: Any) -> Hashable:
    """Returns a key of an image without an `image_error`: equal ones are the same image. Nothing is decoded.

    The pixels of a PIL image are loaded, unless it is an opened file.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        path = os.fsdecode(value)
        return ("path", path) if _may_be_base64(path) else path
    if isinstance(value, np.ndarray):
        return value.shape, hashlib.sha256(np.ascontiguousarray(value).data).digest()
    if not _is_pil(value):
        return hashlib.sha256(bytes(value)).digest()
    try:
        data = unloaded_file(value)
        return _pil_key(value) if data is None else hashlib.sha256(data).digest()
    except Exception:  # noqa: BLE001 - Pillow raises anything; decoding the image gives the reason
        return id(value)


def read_image(value: Any, servers: SilentServers | None = None) -> DecodedPhoto:
    """Decodes an image. Raises PhotoError with the reason why it cannot be read or decoded.

    The StorageError or UserError of a store that fails or refuses passes, since the image may be intact.
    With the same `servers` for many images, a web server that does not respond is waited for a few times only.
    """
    if isinstance(value, str):
        return _read_text(value, servers or SilentServers())
    if isinstance(value, os.PathLike):
        return _read_named(os.fsdecode(value), servers or SilentServers())
    if isinstance(value, np.ndarray):
        from PIL import Image

        return decode_image(Image.fromarray(value))
    return decode_image(value) if _is_pil(value) else decode_photo(bytes(value))


def from_base64(text: str) -> bytes:
    """Returns the bytes of base64 text (RFC 4648, either alphabet), which may be a `data:` URI.

    Raises ValueError if it is invalid.
    """
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    alphabet = b"-_" if "-" in encoded or "_" in encoded else None
    return base64.b64decode("".join(encoded.split()), alphabet, validate=True)


def _read_text(text: str, servers: SilentServers) -> DecodedPhoto:
    """Decodes the image that a text contains as base64, or that it names."""
    if not _may_be_base64(text):
        return _read_named(text, servers)
    try:
        return decode_photo(from_base64(text))
    except (ValueError, PhotoError) as error:
        if os.path.isfile(text):  # noqa: PTH113 - Path raises for a long text
            return _read_named(text, servers)
        raise error if isinstance(error, PhotoError) else PhotoError(f"invalid base64 text ({error})") from error


def _may_be_base64(text: str) -> bool:
    """Returns whether a text is read as base64; a path that is, but does not decode, is a path."""
    return text.startswith("data:") or (len(text) >= _MIN_BASE64 and _BASE64.fullmatch(text) is not None)


def _read_named(text: str, servers: SilentServers) -> DecodedPhoto:
    """Decodes the image at a path or URI."""
    from pipelines.datasets.photo_sources import read_photo  # takes a while to import

    limits = DownloadLimits(attempts=2, deadline_s=DOWNLOAD_S, silence_s=DOWNLOAD_S / 3)
    try:
        # The thread of a notebook runs an event loop, and downloads need one of their own.
        with servers.photo(text), ThreadPoolExecutor(1) as thread:
            return decode_photo(thread.submit(read_photo, text, limits).result())
    except PhotoError as error:
        raise PhotoError(f"{redact(text)[:200]}: {redact(str(error))}") from error


def _pil_key(image: Any) -> Hashable:
    """Returns a key of all that the decoding of a loaded PIL image depends on."""
    palette = image.palette and (image.palette.mode, bytes(image.palette.palette))
    facts = image.format, image.info, dict(image.getexif()), getattr(image, "tag_v2", None), palette
    return image.mode, image.size, repr(facts), hashlib.sha256(image.tobytes()).digest()


def _is_closed(image: Any) -> bool:
    """Returns whether a PIL image was closed before its pixels were loaded, or its pixels were released."""
    file = getattr(image, "fp", None)
    is_unloaded = bool(getattr(image, "tile", ()))
    if is_unloaded:
        return file is None or getattr(file, "closed", False)
    return type(getattr(image, "_im", None)).__name__ == "DeferredError"


def _is_pil(value: Any) -> bool:
    """Returns whether a value is a PIL image, without importing PIL."""
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(value).__mro__)
