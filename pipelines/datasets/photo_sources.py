"""Reads photos by URI and detects whether they changed.

A photo is a local path, a `file://`, `s3://` or `http(s)://` URI, a member of a tar file in the notation of fsspec,
`tar://<member>::<URI of the tar file>`, or likewise a value in a Parquet file,
`parquet://<column>/<row>::<URI of the Parquet file>`, or at a known place of a tar file,
`webdataset://<start>-<end>/<member>::<URI of the tar file>`.
"""

import os
import re
import stat
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.errors import UserError
from infra.paths import absolute
from infra.storage.base import ObjectInfo, Store
from infra.storage.folder import file_version_token
from infra.storage.open import open_store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.http_download import DownloadLimits, download_uri
from pipelines.datasets.manifest import Manifest, Photo, Photos
from pipelines.datasets.parquet_images import read_parquet_image
from pipelines.datasets.spellings import existing_path, spellings
from pipelines.datasets.tar_members import read_member, read_placed_member

MAX_BYTES = 256 * 2**20
"""Largest accepted file in bytes."""
ARCHIVES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
"""Endings of compressed files, from which neither photos nor data sets are read."""
_CHUNK = 10_000
"""Photos that are located at once."""
_LISTINGS = 64
"""Most folders of a bucket that are listed one by one; more folders are listed by their common ancestors."""
_IN_PARQUET = re.compile(r"(.+\.parquet)/([^/]+)/(\d+)(?:/[^/]*)?")
"""Source of an image in a Parquet file: the file, the column, the row and, where it has one, the image's own name."""
_IN_WEBDATASET = re.compile(r"(.+\.tar)/(\d+-\d+/.+)", re.IGNORECASE | re.DOTALL)
"""Source of an image in a webdataset tar: the tar, the bytes of headers and content, and the member."""

_CONTAINERS = {"tar": read_member, "parquet": read_parquet_image, "webdataset": read_placed_member}
"""Readers of a photo in a file of many, by scheme."""


def photo_uri(root: str, source: str) -> str:
    """Returns the URI of a photo: `source` if it is a URI, else its path below `root` (folder, prefix URI or tar file).

    Below a `file://` or `http(s)://` root, the path is percent-encoded: it is not a URI, and `%2e%2e` must not leave
    the root.
    """
    if "://" in source:
        return source
    if _is_tar(root):
        return f"tar://{source}::{root}"
    if match := _IN_PARQUET.fullmatch(source):
        return f"parquet://{match[2]}/{match[3]}::{root.rstrip('/')}/{match[1]}"
    if match := _IN_WEBDATASET.fullmatch(source):
        return f"webdataset://{match[2]}::{root.rstrip('/')}/{match[1]}"
    return f"{root.rstrip('/')}/{quote(source) if root.startswith(('file://', 'http://', 'https://')) else source}"


def read_photo(uri: str, limits: DownloadLimits | None = None) -> bytes:
    """Returns the bytes of a photo. `limits` holds for a photo of a web server.

    Raises PhotoError if the photo is unavailable: it does not exist, read permission is missing, it is larger than
    MAX_BYTES, or a web server reports an error or does not respond after several attempts. Other errors (UserError,
    OSError) are failures of a disk or store rather than of the photo: they end the job, and a rerun resumes it.
    """
    scheme, _, rest = uri.partition("://")
    if scheme in ("http", "https"):
        return _limited(download_uri(uri, MAX_BYTES + 1, limits))
    if scheme in _CONTAINERS:
        member, _, container = rest.partition("::")
        parent, name = parent_and_name(container)
        return _limited(_CONTAINERS[scheme](_store(parent), name, member, MAX_BYTES + 1))
    path = uri if scheme == "s3" else os.path.normpath(absolute(uri, "photo"))  # symbolic links are kept
    parent, name = parent_and_name(path)
    try:
        data = _store(parent).read(name, 0, MAX_BYTES + 1)
    except (FileNotFoundError, PermissionError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "No such file or directory"
        raise PhotoError(f"cannot be read: {reason}") from error
    return _limited(data)


def version_tokens(uris: Iterable[str]) -> dict[str, str]:
    """Returns the version token (`ObjectInfo.version_token`) of each photo that exists, by URI.

    The cost is one `stat` per local file, at most _LISTINGS listings per bucket, and one request per tar or Parquet
    file of a bucket.
    Web servers are not queried: their photos are assumed to exist and not to change, and have an empty version token.
    """
    found: dict[str, str] = {}
    of_container = lru_cache(maxsize=1024)(_version_token)  # one request for all photos of a tar
    buckets: dict[str, list[str]] = defaultdict(list)
    for uri in uris:
        scheme, _, rest = uri.partition("://")
        if scheme in ("http", "https"):
            found[uri] = ""
        elif scheme == "s3":
            if not all(rest.partition("/")[::2]):
                raise UserError(f"photo {uri} names no object; write s3://bucket/key")
            buckets[rest.split("/")[0]].append(uri)
        elif "://" in uri and scheme not in ("file", *_CONTAINERS):
            raise UserError(f"photo {uri}: {scheme}:// is not supported; give a path, https:// or s3://bucket/key")
        else:
            token = of_container(rest.partition("::")[2]) if scheme in _CONTAINERS else _version_token(uri)
            if token is not None:
                found[uri] = token
    for group in buckets.values():
        listed = _list_folders(group)
        found |= {uri: listed[uri].version_token for uri in group if uri in listed}
    return found


def _list_folders(uris: list[str]) -> dict[str, ObjectInfo]:
    """Returns those of the S3 photos of one bucket that exist, by URI, from listings of their folders."""
    wanted = set(uris)
    folders = [parent_and_name(uri)[0].split("/") for uri in uris]
    depth = max(map(len, folders))
    while len(roots := {"/".join(folder[:depth]) for folder in folders}) > _LISTINGS:
        depth -= 1
    listed: dict[str, ObjectInfo] = {}
    for root in roots:
        if not any(root.startswith(f"{other}/") for other in roots):  # else it is listed with the other one
            for name, info in open_store(root).scan():
                if (uri := f"{root}/{name}") in wanted:
                    listed[uri] = info
    return listed


def parent_and_name(uri: str) -> tuple[str, str]:
    """Splits a URI or absolute path at its last `/`."""
    parent, _, name = uri.rpartition("/")
    return parent or "/", name


@lru_cache(maxsize=1024)
def _store(uri: str) -> Store:
    return open_store(uri)


def _version_token(path: str) -> str | None:
    if path.startswith("s3://"):
        return _object_version_token(path)
    try:
        status = Path(absolute(path, "photo")).stat()
        return file_version_token(status) if stat.S_ISREG(status.st_mode) else None
    except (OSError, UserError):  # UserError: not a valid file name
        return None


@lru_cache(maxsize=1024)
def _object_version_token(uri: str) -> str | None:
    parent, name = parent_and_name(uri)
    info = _store(parent).info(name)
    return info.version_token if info else None


def _limited(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise PhotoError(f"larger than {MAX_BYTES >> 20} MiB")
    return data


def locate_photos(name: str, root: str | Path, rows: Iterable[Photo]) -> Manifest:
    """Returns the manifest of photos below `root`, with the version token of each.

    A photo whose file name is another spelling of the listed one (`spellings`) gets the path of the file. A photo that
    does not exist gets no version token (`is_missing`). Raises UserError if photos cannot be read from the root.
    """
    root = _checked_root(absolute(root, "photo folder"))
    return Manifest.build(name, root, _located(root, iter(rows)))


def _located(root: str, rows: Iterator[Photo]) -> Iterator[Photo]:
    """Yields photos with their version tokens, and only some of them in memory, except for objects of buckets."""
    while some := list(islice(rows, _CHUNK)):
        uris = [photo_uri(root, row.source) for row in some]
        if any(uri.startswith("s3://") for uri in uris):
            some += rows  # a bucket is listed once for all of its photos
            uris = [photo_uri(root, row.source) for row in some]
        found = version_tokens(uris)
        unknown = [row.source for row, uri in zip(some, uris, strict=True) if uri not in found]
        found |= version_tokens(photo_uri(root, path) for source in unknown for path in spellings(source))
        for row, uri in zip(some, uris, strict=True):
            if uri in found:
                yield Photo(row.key, row.source, row.split, row.captions, found[uri])
            else:
                yield _respelled(row, root, found)


def _respelled(row: Photo, root: str, found: Mapping[str, str]) -> Photo:
    """Returns a photo under the spelling of its path that exists; unchanged if none does."""
    path = next((path for path in spellings(row.source) if photo_uri(root, path) in found), row.source)
    return replace(row, source=path, version_token=found.get(photo_uri(root, path), ""))


def is_missing(photo: Photo, root: str) -> bool:
    """Returns whether a located photo does not exist. One on a web server, which is not queried, counts as existing."""
    return not photo.version_token and not photo_uri(root, photo.source).startswith(("http://", "https://"))


def missing_rows(table: pa.Table, root: str) -> NDArray[np.int64]:
    """Returns the numbers of the rows of a manifest's table whose photo `is_missing`."""
    is_known = pc.or_(
        pc.not_equal(table["version_token"], ""), pc.match_substring_regex(table["source"], r"\Ahttps?://")
    )
    rows = np.flatnonzero(~is_known.to_numpy(zero_copy_only=False))
    if root.startswith(("http://", "https://")):
        rows = rows[[is_missing(photo, root) for photo in Photos(table, rows)]] if len(rows) else rows
    return rows


def _checked_root(root: str) -> str:
    """Returns the photo root in its spelling on the disk. Raises UserError unless photos can be read from it."""
    unreadable = "is neither a folder nor an uncompressed .tar; unpack it, or pack the photos as an uncompressed .tar"
    if not root.startswith("/"):
        if root.lower().endswith(ARCHIVES):
            raise UserError(f"photo folder {root} {unreadable}")
        return root
    path = existing_path(Path(root))
    if not path.exists():
        raise UserError(f"{path}: no such photo folder; give the folder that holds the photos of the data set")
    if not (_is_uncompressed_tar(path) if _is_tar(root) else path.is_dir()):
        raise UserError(f"photo folder {path} {unreadable}")
    return str(path)


def _is_tar(root: str) -> bool:
    return root.lower().endswith(".tar")


def _is_uncompressed_tar(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:"):
            return True
    except (OSError, tarfile.TarError):
        return False
