"""Verification of a search index: reads every object that it refers to and checks it against everything about it.

An integrity error is one line: the object's name, then what is wrong with it. All of them are collected.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow.compute as pc

from infra.errors import CorruptDataError, StorageError
from infra.storage.base import Store
from infra.storage.pieces import object_pieces
from pipelines.features.layout import snapshot_name
from pipelines.features.verify_shard import disk_error, reported
from pipelines.search.candidate_search_build import read_pooled
from pipelines.search.index_format import IndexDocument, read_index_document
from pipelines.search.layout import file_name
from pipelines.search.partition import Partition, StoredFile, read_partition_receipt
from pipelines.search.partition_reader import read_matrix, read_table
from pipelines.search.vector_rows import VectorType, decode_rows, rows_are_finite

TOLERANCE: dict[VectorType, float] = {"float16": 5e-3, "int8": 2e-2}
"""Largest difference of a pooled vector's number from the mean of the stored vectors, both of which are rounded."""


@dataclass(frozen=True)
class IndexVerification:
    """What was read, and every integrity error."""

    uri: str
    """With the digest of the index."""
    errors: tuple[str, ...]
    """One line each; empty if the index is intact."""
    partitions: int
    items: dict[str, int]
    """Items by gallery."""
    size: int
    """Bytes of the objects read."""
    seconds: float


def verify_index(uri: str, progress: Callable[[int, int], object]) -> IndexVerification:
    """Reads and checks an index (`<uri>@<12 hex>`: the one of that snapshot).

    `progress` is called with the number of objects done and in total. Raises UserError without a valid index.
    """
    started = time.monotonic()
    store, document = read_index_document(uri)
    objects = document.objects()
    errors = list[str]()
    with reported(snapshot_name(document.index), errors):
        errors += _snapshot_errors(store, document)
    intact = set()
    for done, (name, stored) in enumerate(objects.items(), 1):
        error = _object_error(store, name, stored)
        if error is None:
            intact.add(name)
        else:
            errors.append(f"{name}: {error}")
        progress(done, len(objects))
    for name, partition in document.receipts().items():
        with reported(name, errors):
            if read_partition_receipt(store, partition.name) != partition:
                errors.append(f"{name}: does not exist, is corrupt or differs from the index")
        if all(file_name(partition.name, file) in intact for file in partition.files):
            errors += _content_errors(store, partition, document.model.pools_means)
    return IndexVerification(
        f"{store.uri}@{document.index[:12]}",
        tuple(errors),
        len(document.receipts()),
        {name: gallery.items for name, gallery in document.galleries.items()},
        sum(stored.size for stored in objects.values()),
        time.monotonic() - started,
    )


def _snapshot_errors(store: Store, document: IndexDocument) -> Iterator[str]:
    """The snapshot must be the same index, and no photo may be in it twice."""
    name = snapshot_name(document.index)
    if _read(store, name) != document.to_json():
        yield f"{name}: does not exist or differs from the index"
    for partition, times in Counter(p.name for p in document.receipts().values()).items():
        if times > 1:
            yield f"{name}: lists the partition {partition} {times} times"


def _read(store: Store, name: str) -> bytes | None:
    """Returns the bytes of an object, or None for a missing one."""
    try:
        return store.read(name)
    except FileNotFoundError:
        return None


def _object_error(store: Store, name: str, stored: StoredFile) -> str | None:
    """Returns what is wrong with the bytes of an object. An outage of the store is raised: the object may be intact."""
    digest, size = sha256(), 0
    try:
        for piece in object_pieces(store, name):
            digest.update(piece)
            size += len(piece)
    except FileNotFoundError:
        return "does not exist"
    except StorageError as error:
        return disk_error(error)
    if size != stored.size:
        return f"has {size} bytes, expected {stored.size}"
    return None if digest.hexdigest() == stored.sha256 else "does not have the sha256 in the index"


def _content_errors(store: Store, partition: Partition, pools_means: bool) -> Iterator[str]:
    """Table, vectors and pooled vectors of a partition must fit together.

    Without the model, pooled vectors are compared with the others only if they are means.
    """
    name = file_name(partition.name, "vectors")
    try:
        table = read_table(store, partition)
        pooled_ND = read_pooled(store, partition).astype(np.float32)
        shape = (partition.vectors, partition.columns)
        stored = read_matrix(store, name, partition.files["vectors"], np.dtype(partition.vector_type), shape)
    except CorruptDataError as error:
        yield str(error)
        return
    if not rows_are_finite(stored):
        yield f"{name}: contains NaN or infinity"
        return
    if partition.gallery == "photos" and pc.count_distinct(table["key"]).as_py() != partition.items:
        yield f"{file_name(partition.name, 'items')}: has a photo twice"
    edges = np.concatenate([[0], np.cumsum(table["vectors"].to_numpy(), dtype=np.int64)])
    for row in range(partition.items if pools_means else 0):
        mean_D = decode_rows(stored[edges[row] : edges[row + 1]]).mean(axis=0)
        length = np.linalg.norm(mean_D)
        if (
            np.abs(mean_D / max(length, 1e-12) - pooled_ND[row]).max() > TOLERANCE[partition.vector_type]
            and length > TOLERANCE[partition.vector_type]
        ):
            yield f"{file_name(partition.name, 'pooled')}: row {row} is not the mean of its vectors"
            return
