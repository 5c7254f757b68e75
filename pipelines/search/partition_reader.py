"""Reads partitions: the table and the pooled vectors at once and verified, vectors and boxes row by row.

In a folder, files are memory-mapped. In a bucket, rows are read by ranged requests.
"""

import mmap
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.errors import CorruptDataError
from infra.paths import explained
from infra.source_tree import program
from infra.storage.base import Store
from pipelines.features.npy import HEADER_BYTES, view_npy
from pipelines.search.layout import TABLE, file_name
from pipelines.search.partition import Partition, StoredFile
from pipelines.search.vector_rows import rows_are_finite

REQUESTS = 16
"""Concurrent ranged requests."""


def corrupt(store: Store, name: str, reason: str) -> CorruptDataError:
    """Returns the error of an object that is not as the index describes it."""
    return CorruptDataError(
        f"{store.uri}/{name} {reason}; run `{program('index')} verify` to list every corrupt object, delete them and "
        "build the index again"
    )


@contextmanager
def required(store: Store, name: str) -> Iterator[None]:
    """Raises CorruptDataError if the body, which reads an object, does not find it."""
    try:
        yield
    except FileNotFoundError as error:
        raise corrupt(store, name, "does not exist") from error


def object_buffer(store: Store, name: str) -> memoryview:
    """Returns the bytes of an object, memory-mapped if it is a file. Raises CorruptDataError for a missing one."""
    with required(store, name):
        if not store.uri.startswith("/"):
            return memoryview(store.read(name))
        path = Path(store.uri, name)
        try:
            with explained(path), path.open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError as error:  # an empty file cannot be mapped
            raise corrupt(store, name, "is empty") from error


def verified(store: Store, name: str, stored: StoredFile) -> memoryview:
    """Returns the bytes of an object. Raises CorruptDataError if they do not have their size and sha256."""
    data = object_buffer(store, name)
    if len(data) != stored.size or sha256(data).hexdigest() != stored.sha256:
        raise corrupt(store, name, "does not have the sha256 in the index")
    return data


def read_matrix(store: Store, name: str, stored: StoredFile, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Returns a verified .npy file. Raises CorruptDataError for another type or shape."""
    return matrix_of(store, name, verified(store, name, stored), dtype, shape)


def matrix_of(store: Store, name: str, data: memoryview, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Returns the array in .npy bytes. Raises CorruptDataError for another type or shape.

    Of an array without rows, type and width do not matter: a receipt does not state how its vectors are stored.
    """
    try:
        array = view_npy(data)
    except (ValueError, TypeError) as error:
        raise corrupt(store, name, f"is {error}, expected {np.dtype(dtype)} {shape}") from error
    if (array.dtype, array.shape) != (dtype, shape) and not (len(shape) == array.ndim and len(array) == shape[0] == 0):
        raise corrupt(store, name, f"is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
    return array


def read_table(store: Store, partition: Partition) -> pa.Table:
    """Returns the table of a partition's items. Raises CorruptDataError if it is corrupt."""
    name = file_name(partition.name, "items")
    data = verified(store, name, partition.files["items"])
    try:
        table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise corrupt(store, name, f"is not an Arrow file ({error})") from error
    sums = [int(table[column].to_numpy().sum()) for column in ("vectors", "boxes")] if table.schema == TABLE else []
    if [table.num_rows, *sums] != [partition.items, partition.vectors, partition.boxes]:
        raise corrupt(store, name, "does not have the items of its receipt")
    return table


@dataclass(frozen=True)
class StoredMatrix:
    """A stored matrix of which some rows are read. Its values are not verified: `jobs.index verify` does that."""

    store: Store
    name: str
    stored: StoredFile
    dtype: Any
    shape: tuple[int, int]

    def require(self) -> None:
        """Raises CorruptDataError if the object does not exist or has another size."""
        info = self.store.info(self.name)
        if info is None or info.size != self.stored.size:
            found = "does not exist" if info is None else f"has {info.size} bytes"
            raise corrupt(self.store, self.name, f"{found}, expected {self.stored.size}")

    def hold(self) -> None:
        """Maps the file, so that it stays readable after it was moved or deleted. Does nothing in a bucket."""
        if self.store.uri.startswith("/"):
            self._mapped  # noqa: B018

    def read(self, spans: Sequence[tuple[int, int]]) -> NDArray[Any]:
        """Returns the rows of at least one span, given as (first, behind the last), one span after the other.

        Raises CorruptDataError for NaN or infinity.
        """
        found = np.concatenate(self._read(spans))
        if not rows_are_finite(found):
            raise corrupt(self.store, self.name, "contains NaN or infinity")
        return found

    def _read(self, spans: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
        if self.store.uri.startswith("/"):
            mapped = self._mapped
            for start, stop in spans:  # the disk reads all of them at once, not one after the other as they are touched
                mapped.expect(start, stop)
            return [mapped.rows[start:stop] for start, stop in spans]
        with ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(self._requested, spans))

    @cached_property
    def _mapped(self) -> "_MappedMatrix":
        buffer = object_buffer(self.store, self.name)
        assert isinstance(buffer.obj, mmap.mmap), "the store is a folder"
        return _MappedMatrix(buffer.obj, matrix_of(self.store, self.name, buffer, self.dtype, self.shape))

    def _requested(self, span: tuple[int, int]) -> NDArray[Any]:
        width = self.shape[1] * np.dtype(self.dtype).itemsize
        size = (span[1] - span[0]) * width
        with required(self.store, self.name):  # it may have been deleted since the index was opened
            data = self.store.read(self.name, HEADER_BYTES + span[0] * width, size) if size else b""
        if len(data) != size:
            raise corrupt(self.store, self.name, "is shorter than its receipt states")
        return np.frombuffer(data, self.dtype).reshape(-1, self.shape[1])


class _MappedMatrix:
    """A memory-mapped matrix whose rows are read in any order."""

    def __init__(self, file: mmap.mmap, rows: NDArray[Any]) -> None:
        self._file, self.rows = file, rows
        file.madvise(mmap.MADV_RANDOM)  # no other pages are read with one

    def expect(self, start: int, stop: int) -> None:
        """Starts to read some rows from the disk."""
        begin, end = (HEADER_BYTES + row * self.rows.strides[0] for row in (start, stop))
        begin -= begin % mmap.PAGESIZE
        self._file.madvise(mmap.MADV_WILLNEED, begin, end - begin)
