"""The entries of many receipts as flat arrays: about 45 bytes per photo, whatever its texts, which are hashed."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from pipelines.datasets.manifest_checks import text_hashes
from pipelines.features.account import Account
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
        keys, versions, contents, written = array("q"), array("q"), array("q"), bytearray()  # these grow in place
        for number, receipt in enumerate(receipts):
            planned = receipt.planned
            self.accounts.append(Account.of(receipt))
            version = text_hashes(*([getattr(photo, name) for photo in planned] for name in VERSION))
            keys.frombytes(self.accounts[-1].keys.tobytes())
            versions.frombytes(version.tobytes())
            contents.frombytes(text_hashes([photo.sha256 for photo in planned]).tobytes())
            written += bytes([True] * len(receipt.written) + [False] * len(receipt.rejected))
            if receipt.shard in complete:
                group = shard_of_part(receipt.shard) or receipt.split
                self.by_plan[group, receipt.plan_digest].append(number)
        of_index = set(last)
        self.is_complete = np.array([account.shard.name in complete for account in self.accounts], bool)
        self.is_last = np.array([account.shard.name in of_index for account in self.accounts], bool)
        self._starts = np.cumsum([0, *(len(account.keys) for account in self.accounts)])
        self.shard = np.repeat(np.arange(len(self.accounts), dtype=np.int32), np.diff(self._starts))
        """Receipt of every entry."""
        self.key = np.frombuffer(keys, np.int64)
        self.version = np.frombuffer(versions, np.int64)
        self.content = np.frombuffer(contents, np.int64)
        """Hash of the sha256 of the photo; 0 if it could not be read."""
        self.is_written = np.frombuffer(written, bool)

    def entries(self, shard: int) -> slice:
        """Returns the entries of a receipt."""
        return slice(self._starts[shard], self._starts[shard + 1])
