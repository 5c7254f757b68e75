"""What a job keeps of a receipt that it has read: of millions of photos, only their number and a hash of each key."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets.manifest import Manifest
from pipelines.datasets.manifest_checks import column_hashes, text_hashes
from pipelines.features.index import IndexedShard
from pipelines.features.receipt import Receipt


class RejectedPhoto(NamedTuple):
    """A row of the quarantine report, and whether the photo could be read."""

    split: str
    key: str
    source: str
    reason: str
    shard: str
    is_read: bool


@dataclass(frozen=True)
class Account:
    """One shard's entry in the index, the keys that it accounts for, and its rejected photos."""

    shard: IndexedShard
    keys: NDArray[np.int64]
    """Hash of the key of every planned photo (`text_hashes`)."""
    rejected: tuple[RejectedPhoto, ...]

    @classmethod
    def of(cls, receipt: Receipt) -> "Account":
        """Returns the account of a receipt."""
        rejected = tuple(
            RejectedPhoto(receipt.split, r.key, r.source, sys.intern(r.reason), receipt.shard, bool(r.sha256))
            for r in receipt.rejected
        )
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
