"""Names: keys of photos, names of data sets, and paths that leave their root."""

import hashlib
import re
import unicodedata
from pathlib import PurePosixPath

IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif"),
    *(".gif", ".bmp", ".tif", ".tiff", ".jp2"),
)
"""Endings of images, in any case. Other files of a folder or tar are not read as images."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


_URI = re.compile(r"\s*([a-z][a-z0-9+.-]*)(://.*)", re.IGNORECASE | re.DOTALL)


def normal_uri(source: str) -> str:
    """Returns a URI with its scheme in lower case and without blanks before it, of `http(s)` also behind it.

    A path stays as it is.
    """
    match = _URI.fullmatch(source) if "://" in source else None
    if match is None:
        return source
    uri = match[1].lower() + match[2]
    return uri.rstrip() if uri.startswith(("http:", "https:")) else uri


def escapes_root(source: str) -> bool:
    """Returns whether a photo's relative path leaves its root (path traversal); URIs are not relative paths."""
    return "://" not in source and (source.startswith("/") or ".." in source.split("/"))


def safe_key(source: str) -> str:
    """Returns a WebDataset key, `[A-Za-z0-9_-]+`: the file name without suffix, other characters replaced by `_`."""
    name = source.rpartition("/")[2]
    if name in ("", "."):
        name = PurePosixPath(source).name
    end = name.rfind(".")  # a path object takes 3 s per million photos
    return _UNSAFE.sub("_", name[:end] if 0 < end < len(name) - 1 else name)


_NAME_BYTES = 200
"""Longest start of a text in the name of a data set: names of folders have at most 255 bytes, and detectors follow."""


def dataset_name(text: str) -> str:
    """Returns the name of a data set, a part of the names of its feature sets and models.

    Letters, digits (of any script), `_` and `-` stay. Other characters become `_`, and a hash of the text follows, so
    that different texts give different names. A text that is too long for a folder is cut, and a hash follows as well.
    Unicode's composed and decomposed forms are the same text.
    """
    text = unicodedata.normalize("NFC", text)
    name = "".join(char if char in "_-" or unicodedata.category(char)[0] in "LMN" else "_" for char in text)
    name = name.encode()[:_NAME_BYTES].decode(errors="ignore")
    return name if name == text else f"{name}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"
