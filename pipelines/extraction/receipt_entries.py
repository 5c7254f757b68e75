"""The entries of many receipts as flat arrays: about 45 bytes per photo, whatever its texts, which are hashed."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from pipelines.datasets.manifest_checks import text_hashes
from pipelines.features.account import Account, key_hashes
from pipelines.features.layout import shard_of_part
from pipelines.features.receipt import Receipt

VERSION = ("key", "source", "version_token")
"""Fields that tell whether a photo may have changed."""


class ReceiptEntries:
    """One entry for each photo of each receipt, receipt by receipt."""

    def __init__(self, receipts: Iterable[Receipt], complete: set[str], last: Sequence[str]) -> None:
        """`complete`: shards and parts that have a tar; `last`: the shards of the current index."""
        self.accounts: list[Account] = []
        """The account of every receipt."""
        self.by_plan: dict[tuple[str, str], list[int]] = defaultdict(list)
        """Complete shards by split and plan digest, and complete parts by their shard and plan digest."""
        versions, contents, written = [], [], []
        for number, receipt in enumerate(receipts):
            planned = receipt.planned
            self.accounts.append(Account.of(receipt))
            versions.append(text_hashes(*([getattr(photo, name) for photo in planned] for name in VERSION)))
            contents.append(text_hashes([photo.sha256 for photo in planned]))
            written.append(np.arange(len(planned)) < len(receipt.written))
            if receipt.shard in complete:
                group = shard_of_part(receipt.shard) or receipt.split
                self.by_plan[group, receipt.plan_digest].append(number)
        of_index = set(last)
        self.is_complete = np.array([account.shard.name in complete for account in self.accounts], bool)
        self.is_last = np.array([account.shard.name in of_index for account in self.accounts], bool)
        self._starts = np.cumsum([0, *(len(account.keys) for account in self.accounts)])
        self.shard = np.repeat(np.arange(len(self.accounts), dtype=np.int32), np.diff(self._starts))
        """Receipt of every entry."""
        self.key = key_hashes(self.accounts)
        self.version = np.concatenate([self.key[:0], *versions])
        self.content = np.concatenate([self.key[:0], *contents])
        """Hash of the sha256 of the photo; 0 if it could not be read."""
        self.is_written = np.concatenate([np.empty(0, bool), *written])

    def entries(self, shard: int) -> slice:
        """Returns the entries of a receipt."""
        return slice(self._starts[shard], self._starts[shard + 1])
