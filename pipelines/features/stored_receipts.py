"""The receipts of a feature set, read from the store when they are looked at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from infra.errors import CorruptDataError
from infra.source_tree import program
from infra.storage.base import Store
from pipelines.features.index import IndexedShard
from pipelines.features.receipt import Receipt, read_receipts


@dataclass(frozen=True)
class StoredReceipts(Sequence[Receipt]):
    """Receipts in the order of the index, each checked against its entry there.

    Every access reads. Iteration reads some ahead and keeps none, so that a pass over millions of photos needs little
    memory.
    """

    store: Store
    shards: tuple[IndexedShard, ...]

    def __len__(self) -> int:
        return len(self.shards)

    @overload
    def __getitem__(self, at: int) -> Receipt: ...
    @overload
    def __getitem__(self, at: slice) -> "StoredReceipts": ...
    def __getitem__(self, at: int | slice) -> "Receipt | StoredReceipts":
        if isinstance(at, slice):
            return StoredReceipts(self.store, self.shards[at])
        return next(iter(StoredReceipts(self.store, (self.shards[at],))))

    def __iter__(self) -> Iterator[Receipt]:
        """Raises CorruptDataError for a receipt that is missing, corrupt, or not the one of the index."""
        for shard, receipt in zip(self.shards, read_receipts(self.store, (s.name for s in self.shards)), strict=True):
            if receipt is None or IndexedShard.of(receipt) != shard:
                raise CorruptDataError(
                    f"{self.store.uri}: the index or a receipt is corrupt; run `{program('features')} verify` to list "
                    "every corrupt object"
                )
            yield receipt
