"""Whether the folder of a feature set belongs to a data set. Names do not decide: two data sets may have the same."""

import re
from collections.abc import Iterator
from itertools import chain
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.errors import UserError
from infra.parquet import read_parquet
from infra.storage.base import Store
from pipelines.datasets.manifest import Manifest
from pipelines.datasets.photo_sources import photo_uri
from pipelines.features.index import InvalidIndexError, read_index
from pipelines.features.layout import manifest_name
from pipelines.features.manifests import local_copy

_COLUMNS = ("key", "source", "captions", "version_token")
_CHUNK = 10_000
"""Rows that exist as Python objects at a time."""
_PLACE = re.compile(r"(\.tar|\.parquet/[^/]+)/\d+(?:-\d+)?(?=/|$)")
"""Place of a photo in a tar or Parquet file: it changes when the file is written again with other photos."""
_FILE_TOKEN = re.compile(r"(\d+)-\d+")
"""Version token of a file, which begins with its size in bytes."""


def require_dataset(store: Store, manifest: Manifest) -> None:
    """Raises UserError if the feature set in the store, whose index would be replaced, belongs to another data set.

    Also raises it if the feature set has captions and the data set has none: they would be lost.

    Another data set has another name, or other photos. A data set that has changed keeps a photo: its key and URI. One
    whose photos were moved as well keeps half of the photos of the smaller of the two: key and source, and the
    captions, or, without captions, the size of the file if both are known.
    """
    try:
        index = read_index(store)
    except (FileNotFoundError, NotADirectoryError, InvalidIndexError):
        return
    if index.dataset == manifest.name and _has_photos_of(store, index.manifest, index.photo_root, manifest):
        return
    raise UserError(
        f"{store.uri} belongs to another data set, '{index.dataset}' with other photos; give this data set "
        f"('{manifest.name}') a name of its own, or choose another output"
    )


def _has_photos_of(store: Store, earlier: str, earlier_root: str, manifest: Manifest) -> bool:
    """Returns whether a manifest has photos of an earlier one; True if the earlier one is lost or corrupt."""
    if earlier == manifest.digest() and earlier_root == manifest.root:
        return True
    try:
        with local_copy(store, manifest_name(earlier)) as file:
            table = _read_table(file)
    except FileNotFoundError:
        return True
    if table is None:
        return True
    ours, theirs = _hashes(manifest.table, manifest.root), _hashes(table, earlier_root)
    if theirs[2].any() and not ours[2].any():
        raise UserError(
            f"{store.uri} has captions, and data set '{manifest.name}', which would replace them, has none; give the "
            "data set with its captions, or choose another output"
        )
    if np.isin(ours[0], theirs[0]).any():
        return True
    _, our_rows, their_rows = np.intersect1d(ours[1], theirs[1], return_indices=True)
    _, _, captions, size = ours[:, our_rows]
    _, _, their_captions, their_size = theirs[:, their_rows]
    may_be_same_file = (size == their_size) | (size == 0) | (their_size == 0)
    is_same = np.where((captions != 0) & (their_captions != 0), captions == their_captions, may_be_same_file)
    return bool(2 * is_same.sum() >= min(ours.shape[1], theirs.shape[1]))


def _read_table(file: IO[bytes]) -> pa.Table | None:
    """Returns the columns of a local copy of a manifest by which photos are compared; None if it is corrupt."""
    try:
        return read_parquet(file, _COLUMNS).select(_COLUMNS)
    except (OSError, ValueError, LookupError):
        return None


def _hashes(table: pa.Table, root: str) -> NDArray[np.int64]:
    """Returns hashes (4 x photos): key and URI, key and source, captions, size. 0 stands for what is not known."""
    return np.fromiter(chain.from_iterable(_facts(table, root)), np.int64).reshape(-1, 4).T


def _facts(table: pa.Table, root: str) -> Iterator[tuple[int, int, int, int]]:
    for batch in table.to_batches(max_chunksize=_CHUNK):
        for key, source, captions, token in zip(*(batch[name].to_pylist() for name in _COLUMNS), strict=True):
            name, is_member = _PLACE.subn(r"\1", source)
            match = None if is_member else _FILE_TOKEN.fullmatch(token)
            size = hash(match[1]) if match else 0
            yield (
                hash((key, photo_uri(root, source))),
                hash((key, name)),
                hash(tuple(captions)) if captions else 0,
                size,
            )
