"""Finds which photos of a data set exist, and the version token by which a change is detected. Reads none of them."""

import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.errors import UserError
from infra.paths import absolute, exists, explained, is_dir, is_file
from infra.storage.folder import FolderStore
from pipelines.datasets.listing import ObjectTokens
from pipelines.datasets.manifest import Manifest, Photo, Photos, photo_tables
from pipelines.datasets.manifest_checks import repeated_rows, text_hashes
from pipelines.datasets.photo_sources import (
    CONTAINERS,
    is_tar,
    parent_and_name,
    photo_uri,
    require_photo_scheme,
    split_container,
    store_of,
)
from pipelines.datasets.spellings import existing_path, spellings

ARCHIVES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
"""Endings of compressed files, from which neither photos nor data sets are read."""
_CHUNK = 10_000
"""Photos that are located at once."""


def version_tokens(uris: Iterable[str], objects: ObjectTokens | None = None) -> dict[str, str]:
    """Returns the version token (`ObjectInfo.version_token`) of each photo that exists, by URI.

    The cost is one `stat` per local file, the listings of `ObjectTokens`, which `objects` saves, and one request per
    tar or Parquet file of a bucket.
    Web servers are not queried: their photos are assumed to exist and not to change, and have an empty version token.
    Raises UserError for a URI of another scheme, and for one of S3 that names no object; StorageError for a path that
    may exist but cannot be looked at.
    """
    found: dict[str, str] = {}
    of_container = lru_cache(maxsize=1024)(_version_token)  # one request for all photos of a tar
    in_buckets: list[str] = []
    for uri in uris:
        scheme, _, rest = uri.partition("://")
        if scheme in ("http", "https"):
            found[uri] = ""
        elif scheme == "s3":
            in_buckets.append(uri)
        else:
            require_photo_scheme(uri)
            token = of_container(split_container(rest)[1]) if scheme in CONTAINERS else _version_token(uri)
            if token is not None:
                found[uri] = token
    if in_buckets:
        found |= (objects or ObjectTokens(in_buckets)).find(in_buckets)
    return found


def _version_token(path: str) -> str | None:
    if path.startswith("s3://"):
        return _object_version_token(path)
    try:
        found = Path(absolute(path, "photo"))
    except UserError:  # not a valid file name
        return None
    info = FolderStore(found.parent).info(found.name)
    return info.version_token if info else None


@lru_cache(maxsize=1024)
def _object_version_token(uri: str) -> str | None:
    parent, name = parent_and_name(uri)
    info = store_of(parent).info(name)
    return info.version_token if info else None


def locate_photos(name: str, root: str | Path, rows: Iterable[Photo]) -> Manifest:
    """Returns the manifest of photos below `root`, with the version token of each, unless a reader found it already.

    A photo whose file name is another spelling of the listed one (`spellings`) gets the path of the file. A photo that
    does not exist gets no version token (`is_missing`). Raises UserError if photos cannot be read from the root, and
    if two of them are the same file: their captions, or one in `train` and one in `test`, would contradict each other.
    """
    root = _checked_root(absolute(root, "photo folder"))
    manifest = Manifest.build(name, root, _located(root, iter(rows)))
    _require_distinct(manifest)
    return manifest


def _require_distinct(manifest: Manifest) -> None:
    """Raises UserError naming two photos that are the same file, however their paths are written."""
    hashes = text_hashes(_normal(manifest.root, photo.source) for photo in manifest.photos())
    first: dict[str, Photo] = {}
    for photo in manifest.rows(repeated_rows(hashes)):
        other = first.setdefault(_normal(manifest.root, photo.source), photo)
        if other is not photo:
            raise UserError(
                f"{other.source} (key {other.key}, split {other.split}) and {photo.source} (key {photo.key}, split "
                f"{photo.split}) are the same file; write its path in one way, as the file is named, or remove one"
            )


def _normal(root: str, source: str) -> str:
    """Returns the path below the root, without `.` and doubled `/`; the URI of a photo that is elsewhere."""
    if source.startswith("file://"):
        source = absolute(source, "photo")
    source = source.removeprefix(f"{root.rstrip('/')}/")
    return posixpath.normpath(source) if ("./" in source or "//" in source) and "://" not in source else source


def _located(root: str, rows: Iterator[Photo]) -> Iterator[Photo]:
    """Yields photos with their version tokens; those that have one keep it. Only a chunk exists as Python objects."""
    while some := list(islice(rows, _CHUNK)):
        if any(_objects_of(root, some)):
            yield from _located_in_buckets(root, chain(some, rows))
        else:
            yield from _with_tokens(root, some)


def _located_in_buckets(root: str, rows: Iterator[Photo]) -> Iterator[Photo]:
    """Yields photos as `_located`. Each bucket is listed once for all of its photos."""
    tables = [(table, np.arange(table.num_rows)) for table in photo_tables(rows)]
    objects = ObjectTokens(uri for chunk in tables for uri in _objects_of(root, Photos(*chunk)))
    tables.reverse()
    while tables:
        yield from _with_tokens(root, list(Photos(*tables.pop())), objects)


def _objects_of(root: str, rows: Iterable[Photo]) -> Iterator[str]:
    """Yields the URIs of photos in buckets that have no version token."""
    uris = (photo_uri(root, row.source) for row in rows if not row.version_token)
    return (uri for uri in uris if uri.startswith("s3://"))


def _with_tokens(root: str, rows: list[Photo], objects: ObjectTokens | None = None) -> Iterator[Photo]:
    """Yields a chunk of photos with their version tokens."""
    uris = [photo_uri(root, row.source) for row in rows]
    found = version_tokens((uri for row, uri in zip(rows, uris, strict=True) if not row.version_token), objects)
    unknown = [r.source for r, uri in zip(rows, uris, strict=True) if not r.version_token and uri not in found]
    found |= version_tokens((photo_uri(root, path) for each in unknown for path in spellings(each)), objects)
    for row, uri in zip(rows, uris, strict=True):
        if row.version_token:
            yield row
        elif uri in found:
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
    if not exists(path):
        raise UserError(f"{path}: no such photo folder; give the folder that holds the photos of the data set")
    if not (is_file(path) and _is_uncompressed_tar(path) if is_tar(root) else is_dir(path)):
        raise UserError(f"photo folder {path} {unreadable}")
    return str(path)


def _is_uncompressed_tar(path: Path) -> bool:
    try:
        with explained(path), tarfile.open(path, "r:"):
            return True
    except tarfile.TarError:
        return False
