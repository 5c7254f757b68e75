"""The photos of some shards as columns, about 130 bytes per photo instead of 500 as Python objects."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.features.index import IndexedShard
from pipelines.features.receipt import MEMBERS, Receipt
from pipelines.features.texts import Texts


@dataclass(frozen=True)
class PhotoTable:
    """Key, source, shard and offsets of n photos, in the order of their shards unless `take` changed it."""

    shards: tuple[IndexedShard, ...]
    """The shards that contain the photos."""
    shard_of: NDArray[np.int32]
    """Position in `shards` of the shard of every photo."""
    keys: Texts
    sources: Texts
    offsets: NDArray[np.int64]
    """(offset, size) of each of `MEMBERS`, n x 3 x 2; see `Written.offsets`."""

    @classmethod
    def read(cls, shards: Sequence[IndexedShard], receipts: Iterable[Receipt]) -> "PhotoTable":
        """Returns the photos of shards, whose receipts are read one after the other."""
        keys, sources, offsets = list[pa.Array](), list[pa.Array](), list[NDArray[np.int64]]()
        for receipt in receipts:
            found = np.array([photo.offsets for photo in receipt.written], np.int64)
            offsets.append(found.reshape(-1, len(MEMBERS), 2))
            keys.append(pa.array([photo.key for photo in receipt.written], pa.large_string()))
            sources.append(pa.array([photo.source for photo in receipt.written], pa.large_string()))
        shard_of = np.repeat(np.arange(len(shards), dtype=np.int32), [len(found) for found in offsets])
        return cls(
            tuple(shards),
            shard_of,
            Texts(pa.concat_arrays(keys)),
            Texts(pa.concat_arrays(sources)),
            np.concatenate(offsets),
        )

    def __len__(self) -> int:
        return len(self.shard_of)

    def take(self, rows: NDArray[np.integer]) -> "PhotoTable":
        """Returns the photos of these rows, in this order, without shards that contain none of them."""
        shards, shard_of = np.unique(self.shard_of[rows], return_inverse=True)
        return PhotoTable(
            tuple(self.shards[number] for number in shards),
            shard_of.astype(np.int32),
            Texts(self.keys.array.take(pa.array(rows))),
            Texts(self.sources.array.take(pa.array(rows))),
            self.offsets[rows],
        )

    def rows_of(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Returns the rows of the photos with these keys, which must exist."""
        rows = pc.index_in(pa.array(keys, pa.large_string()), value_set=self.keys.array)
        assert not rows.null_count, "a key belongs to no photo"
        return rows.to_numpy().astype(np.int64)
