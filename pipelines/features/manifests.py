"""The manifest as an object of a feature set: every index refers to one by digest."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from tempfile import SpooledTemporaryFile
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import CorruptDataError, StorageError, UserError
from infra.parquet import open_parquet
from infra.storage.base import Store
from infra.storage.disk import names_full_disk, tmpdir
from infra.storage.pieces import PIECE_BYTES, file_pieces, object_pieces
from pipelines.datasets.manifest import Manifest, Photo, Photos
from pipelines.datasets.ranged_file import RangedFile
from pipelines.features.layout import manifest_name


def write_manifest(store: Store, manifest: Manifest, exact: bool = False) -> None:
    """Writes the manifest, the first object of a feature set, unless it exists.

    With `exact`, one with other version tokens or another root, which the digest leaves out, is replaced: workers read
    their photos from it. Raises UserError if the store cannot be written, so that a job fails before it does any work.
    """
    name = manifest_name(manifest.digest())
    exists = store.info(name) is not None
    if exists and not exact:
        return
    try:
        with SpooledTemporaryFile(PIECE_BYTES, dir=tmpdir()) as file:
            manifest.write_parquet(file)
            if not exists:
                store.put_if_absent(name, file_pieces(file))
            elif any(new != old for new, old in zip_longest(file_pieces(file), object_pieces(store, name))):
                store.replace(name, file_pieces(file))
    except StorageError:
        raise
    except OSError as error:
        raise UserError(f"{store.uri}: cannot be written ({error.strerror or error}); choose another output") from error


def read_manifest(store: Store, digest: str) -> Manifest:
    """Returns the manifest with a digest. Raises CorruptDataError if it is missing or corrupt."""
    uri = f"{store.uri}/{manifest_name(digest)}"
    try:
        with local_copy(store, manifest_name(digest)) as file:
            manifest = parse_manifest(file, uri)
    except FileNotFoundError as error:
        raise CorruptDataError(f"{uri} does not exist; extract the data set again to write it") from error
    if manifest.digest() != digest:
        raise CorruptDataError(f"{uri} does not have the digest in its index; delete it and extract the data set again")
    return manifest


def parse_manifest(file: IO[bytes], origin: str) -> Manifest:
    """Returns the manifest in a local copy. Raises CorruptDataError naming `origin` if it is not a valid one."""
    try:
        return Manifest.from_parquet(file, origin)
    except UserError as error:
        raise CorruptDataError(str(error)) from error


@dataclass(frozen=True)
class StoredManifest:
    """A manifest in its store, of which workers read some rows."""

    store: Store
    name: str
    version_token: str
    """Version token of the object, which may be replaced by one with other version tokens of photos."""

    @classmethod
    def find(cls, store: Store, digest: str) -> "StoredManifest":
        """Returns the manifest with a digest, which must exist."""
        info = store.info(manifest_name(digest))
        assert info is not None, f"{store.uri}/{manifest_name(digest)} was written before"
        return cls(store, manifest_name(digest), info.version_token)

    def rows(self, spans: Sequence[tuple[int, int]]) -> list[Photo]:
        """Returns rows, given as (first, behind the last). A row group is read at once, and the last one is kept."""
        found: list[Photo] = []
        for first, end in spans:
            start = 0
            for group in range(_open(self).num_row_groups):
                stop = start + _open(self).metadata.row_group(group).num_rows
                if start < end and first < stop:
                    rows = np.arange(max(first, start) - start, min(end, stop) - start)
                    found += Photos(_row_group(self, group), rows)
                start = stop
        return found


@lru_cache(maxsize=2)
def _open(manifest: StoredManifest) -> pq.ParquetFile:
    return open_parquet(RangedFile(manifest.store, manifest.name))


@lru_cache(maxsize=1)
def _row_group(manifest: StoredManifest, group: int) -> pa.Table:
    return _open(manifest).read_row_group(group, use_threads=False)


@contextmanager
def local_copy(store: Store, name: str) -> Iterator[IO[bytes]]:
    """Gives an object as a temporary file. FileNotFoundError for a missing one."""
    with SpooledTemporaryFile(PIECE_BYTES, dir=tmpdir()) as file:
        with names_full_disk(f"{store.uri}/{name}", "free space for temporary files (TMPDIR)"):
            for piece in object_pieces(store, name):
                file.write(piece)
            file.seek(0)
        yield file
