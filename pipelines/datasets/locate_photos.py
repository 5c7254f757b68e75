"""Finds which photos of a data set exist, and the version token by which a change is detected. Reads none of them."""

import stat
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.errors import UserError
from infra.paths import absolute
from infra.storage.base import ObjectInfo
from infra.storage.folder import file_version_token
from infra.storage.open import open_store
from pipelines.datasets.manifest import Manifest, Photo, Photos
from pipelines.datasets.photo_sources import CONTAINERS, is_tar, parent_and_name, photo_uri, store_of
from pipelines.datasets.spellings import existing_path, spellings

ARCHIVES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
"""Endings of compressed files, from which neither photos nor data sets are read."""
_CHUNK = 10_000
"""Photos that are located at once."""
_LISTINGS = 64
"""Most folders of a bucket that are listed one by one; more folders are listed by their common ancestors."""


def version_tokens(uris: Iterable[str]) -> dict[str, str]:
    """Returns the version token (`ObjectInfo.version_token`) of each photo that exists, by URI.

    The cost is one `stat` per local file, at most _LISTINGS listings per bucket, and one request per tar or Parquet
    file of a bucket.
    Web servers are not queried: their photos are assumed to exist and not to change, and have an empty version token.
    Raises UserError for a URI of another scheme, and for one of S3 that names no object.
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
        elif "://" in uri and scheme not in ("file", *CONTAINERS):
            raise UserError(f"photo {uri}: {scheme}:// is not supported; give a path, https:// or s3://bucket/key")
        else:
            token = of_container(rest.partition("::")[2]) if scheme in CONTAINERS else _version_token(uri)
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
    info = store_of(parent).info(name)
    return info.version_token if info else None


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
    if not (_is_uncompressed_tar(path) if is_tar(root) else path.is_dir()):
        raise UserError(f"photo folder {path} {unreadable}")
    return str(path)


def _is_uncompressed_tar(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:"):
            return True
    except (OSError, tarfile.TarError):
        return False
