"""What a job keeps of a receipt that it has read: a hash of each photo's key, and the texts of rejections in Arrow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.datasets.manifest import Manifest
from pipelines.datasets.manifest_checks import column_hashes, text_hashes
from pipelines.features.index import IndexedShard
from pipelines.features.receipt import Receipt

REJECTED = pa.schema([("key", pa.string()), ("source", pa.string()), ("reason", pa.string()), ("is_read", pa.bool_())])
"""Columns of the rejected photos of a shard; `is_read`: whether the photo's file could be read."""
NONE_REJECTED = pa.record_batch([pa.nulls(0, field.type) for field in REJECTED], schema=REJECTED)  # without pandas


@dataclass(frozen=True)
class Account:
    """One shard's entry in the index, the keys that it accounts for, and its rejected photos."""

    shard: IndexedShard
    keys: NDArray[np.int64]
    """Hash of the key of every planned photo (`text_hashes`)."""
    rejected: pa.RecordBatch
    """The rejected photos (REJECTED)."""

    @classmethod
    def of(cls, receipt: Receipt) -> "Account":
        """Returns the account of a receipt."""
        rows = [(row.key, row.source, row.reason, bool(row.sha256)) for row in receipt.rejected]
        columns = [[row[number] for row in rows] for number in range(len(REJECTED))]
        rejected = pa.record_batch(columns, schema=REJECTED) if rows else NONE_REJECTED
        return cls(IndexedShard.of(receipt), text_hashes([photo.key for photo in receipt.planned]), rejected)


def key_hashes(accounts: Iterable[Account]) -> NDArray[np.int64]:
    """Returns the hashes of all keys, account by account."""
    return np.concatenate([np.empty(0, np.int64), *(account.keys for account in accounts)])


def check_accounts(accounts: Sequence[Account], manifest: Manifest, uri: str) -> None:
    """Raises RuntimeError unless the accounts contain every photo of the manifest exactly once.

    Otherwise the pipeline has lost or duplicated a photo.
    """
    planned = np.sort(column_hashes(manifest.table, "key"))
    if not np.array_equal(planned, np.sort(key_hashes(accounts))):
        written = sum(account.shard.written for account in accounts)
        rejected = sum(account.shard.rejected for account in accounts)
        raise RuntimeError(f"{uri}: planned {len(planned)} photos, written {written}, rejected {rejected}")
