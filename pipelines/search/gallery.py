"""A gallery as a process holds it: some of its partitions, with the candidate search over their items.

Rows are those of the complete gallery, so that results of processes with other partitions can be merged.
Shapes: N items held, Q queries, K candidates, D joint width.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.storage.base import Store
from pipelines.features.npy import HEADER_BYTES
from pipelines.search.candidate_search import CandidateIndex
from pipelines.search.candidate_search_build import read_pooled
from pipelines.search.index_format import Gallery
from pipelines.search.layout import centroids_name, file_name, lists_name
from pipelines.search.partition import Partition
from pipelines.search.partition_reader import REQUESTS, StoredMatrix, matrix_of, read_matrix, read_table, verified
from pipelines.search.vector_rows import decode_rows


@dataclass(frozen=True)
class Filter:
    """Restricts a search to some items."""

    split: str | None = None
    key_prefix: str = ""


@dataclass(frozen=True)
class Item:
    """A row of a gallery, as its partition describes it."""

    row: int
    dataset: str
    split: str
    key: str
    source: str
    captions: tuple[str, ...]


class HeldPartition:
    """An open partition."""

    def __init__(self, store: Store, partition: Partition, start: int, held: int) -> None:
        """`start` is the row of its first item in the gallery, `held` that among the items that this process holds.

        Raises UserError if an object of the partition is missing or corrupt.
        """
        self.partition, self.start, self.held = partition, start, held
        self.table = read_table(store, partition)
        self.vectors = self._rows(
            store, "vectors", np.dtype(partition.vector_type), (partition.vectors, partition.columns)
        )
        self.boxes = self._rows(store, "boxes", np.float32, (partition.boxes, 4))
        self._vector_edges = self._edges("vectors")
        self._box_edges = self._edges("boxes")

    def spans(self, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Returns where the vectors of items are stored, given their rows in the gallery."""
        return self._spans(self._vector_edges, rows)

    def box_spans(self, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Returns where the boxes of items are stored."""
        return self._spans(self._box_edges, rows)

    def item(self, row: int) -> Item:
        """Returns an item by its row in the gallery."""
        found = {name: self.table[name][row - self.start].as_py() for name in ("key", "source", "captions")}
        partition = self.partition
        return Item(row, partition.dataset, partition.split, found["key"], found["source"], tuple(found["captions"]))

    def allowed(self, where: Filter) -> NDArray[np.bool_]:
        """Returns which items a filter allows."""
        if where.split not in (None, self.partition.split):
            return np.zeros(self.partition.items, np.bool_)
        found: NDArray[np.bool_] = pc.starts_with(self.table["key"], where.key_prefix).to_numpy()
        return found

    def _rows(self, store: Store, file: str, dtype: Any, shape: tuple[int, int]) -> StoredMatrix:
        rows = StoredMatrix(store, file_name(self.partition.name, file), self.partition.files[file], dtype, shape)
        rows.require()
        return rows

    def _edges(self, column: str) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.table[column].to_numpy(), dtype=np.int64)])

    def _spans(self, edges: NDArray[np.int64], rows: NDArray[np.int64]) -> list[tuple[int, int]]:
        at = rows - self.start
        return list(zip(edges[at].tolist(), edges[at + 1].tolist(), strict=True))


class HeldGallery:
    """The partitions of a gallery that a process holds."""

    def __init__(self, store: Store, name: str, gallery: Gallery, partitions: Sequence[str] | None) -> None:
        """`partitions` names those to open; None opens all. Raises UserError if an object is missing or corrupt."""
        self.name, self.total = name, gallery.items
        ranges: list[tuple[Partition, int, int]] = []
        start = held = 0
        for partition in gallery.partitions:
            if partitions is None or partition.name in partitions:
                ranges.append((partition, start, held))
                held += partition.items
            start += partition.items
        with ThreadPoolExecutor(REQUESTS) as pool:  # a bucket has a high latency
            self.partitions = list(pool.map(lambda held_range: HeldPartition(store, *held_range), ranges))
        self._starts = np.array([partition.start for partition in self.partitions], np.int64)
        self._held = np.array([partition.held for partition in self.partitions], np.int64)
        self._candidates = self._open_candidates(store, gallery)

    def __len__(self) -> int:
        """Returns the number of items held."""
        return len(self._candidates)

    def nearest(
        self, pooled_QD: NDArray[np.float32], count: int, where: Filter | None, every_list: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns the rows (Q x K) of the `count` nearest items held, best first, and their cosines.

        Where there are fewer, the row is -1 and the cosine -inf. Without `where` and `every_list`, an index with lists
        compares those nearest to the query only.
        """
        allowed = None if where is None else self._allowed(where)
        items_QK, cosines_QK = self._candidates.search(pooled_QD, count, allowed, every_list)
        number_QK = np.maximum(np.searchsorted(self._held, items_QK, side="right") - 1, 0)
        if not len(self.partitions):
            return items_QK, cosines_QK
        rows_QK = np.where(items_QK < 0, -1, items_QK - self._held[number_QK] + self._starts[number_QK])
        return rows_QK, np.where(items_QK < 0, -np.inf, cosines_QK).astype(np.float32)

    def vectors(self, rows: NDArray[np.int64]) -> list[Tensor]:
        """Returns the stored vectors of items, N_k x D each, as float32. Raises UserError if they are corrupt."""
        found: list[Tensor | None] = [None] * len(rows)
        for partition, at in self._by_partition(rows):
            spans = partition.spans(rows[at])
            read = torch.from_numpy(decode_rows(partition.vectors.read(spans)))
            for position, vectors in zip(at, read.split([stop - start for start, stop in spans]), strict=True):
                found[position] = vectors
        return [vectors for vectors in found if vectors is not None]

    def boxes(self, row: int) -> NDArray[np.float32]:
        """Returns the boxes of a photo, R x 4, or 0 x 4 if it has none."""
        rows = np.array([row])
        ((partition, _),) = self._by_partition(rows)
        return partition.boxes.read(partition.box_spans(rows))

    def item(self, row: int) -> Item:
        """Returns an item by its row."""
        ((partition, _),) = self._by_partition(np.array([row]))
        return partition.item(row)

    def rows_of(self, key: str, dataset: str | None = None) -> NDArray[np.int64]:
        """Returns the rows of the items held that have a key, of all data sets or of one."""
        found = [
            partition.start + np.flatnonzero(pc.equal(partition.table["key"], key).to_numpy())
            for partition in self.partitions
            if dataset in (None, partition.partition.dataset)
        ]
        return np.concatenate([np.empty(0, np.int64), *found])

    def holds(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Returns which rows are those of items held; False for -1."""
        if not len(self.partitions):
            return np.zeros(rows.shape, np.bool_)
        number = np.maximum(np.searchsorted(self._starts, rows, side="right") - 1, 0)
        ends = self._starts + [partition.partition.items for partition in self.partitions]
        return (rows >= self._starts[number]) & (rows < ends[number])

    def _by_partition(self, rows: NDArray[np.int64]) -> list[tuple[HeldPartition, NDArray[np.int64]]]:
        """Returns the partitions that have some of the rows, and the positions of these."""
        assert self.holds(rows).all(), "every row is held"
        number = np.searchsorted(self._starts, rows, side="right") - 1
        return [(self.partitions[n], np.flatnonzero(number == n)) for n in np.unique(number).tolist()]

    def _allowed(self, where: Filter) -> NDArray[np.bool_]:
        return np.concatenate([np.empty(0, np.bool_), *(partition.allowed(where) for partition in self.partitions)])

    def _open_candidates(self, store: Store, gallery: Gallery) -> CandidateIndex:
        held, search = [partition.partition for partition in self.partitions], gallery.first_stage
        width = gallery.partitions[0].width
        with ThreadPoolExecutor(REQUESTS) as pool:
            pooled = list(pool.map(lambda partition: read_pooled(store, partition), held))
        if search.centroids is None:
            return CandidateIndex(width, pooled)
        name = centroids_name(self.name, search.identity)
        data = verified(store, name, search.centroids)
        lists = (search.centroids.size - HEADER_BYTES) // (4 * width)
        centroids_LD = matrix_of(store, name, data, np.float32, (lists, width))
        assigned = [
            read_matrix(store, lists_name(p.name, search.identity), search.lists[p.name], np.int32, (p.items,))
            for p in held
        ]
        return CandidateIndex(width, pooled, centroids_LD, assigned, search.probes)
