"""What receipts record about the photos of a manifest, and the present content of these photos.

A photo may occur in several receipts, also of earlier versions of the data set; those of the current index come first.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.storage.base import Store
from pipelines.datasets.locate_photos import missing_rows
from pipelines.datasets.manifest import SPLITS, Manifest, Photo, Photos
from pipelines.datasets.manifest_checks import column_hashes, text_hashes
from pipelines.extraction.receipt_entries import VERSION, ReceiptEntries
from pipelines.features.receipt import read_receipt
from pipelines.features.rehashed import Rehashed
from pipelines.features.shard_plan import EarlierShards, split_codes

HashPhotos = Callable[[Photos], dict[str, str]]
"""Returns the sha256 of photos as they are now, by key; '' for one that cannot be read."""
_Rows = NDArray[np.int64]
"""Numbers of rows of a manifest."""
_ROWS_AT_ONCE = 1_000_000
"""Rows for which temporary arrays exist at a time."""


class History:
    """Finds what is stored already of the photos of one manifest."""

    def __init__(self, store: Store, manifest: Manifest, past: ReceiptEntries) -> None:
        self._store, self._manifest, self._past = store, manifest, past
        self._key = column_hashes(manifest.table, "key")
        self._rows = np.arange(len(self._key))
        self._by_key = np.argsort(past.key, kind="stable")
        recorded, order = past.key[self._by_key], np.argsort(self._key)  # sorted needles are found much faster
        self._first, self._count = np.empty_like(order), np.empty(len(order), np.int32)
        for start in range(0, len(order), _ROWS_AT_ONCE):
            rows = order[start : start + _ROWS_AT_ONCE]
            first = np.searchsorted(recorded, self._key[rows])
            self._first[rows] = first
            self._count[rows] = np.searchsorted(recorded, self._key[rows], side="right") - first
        self._content = np.zeros(len(order), np.int64)
        """Hash of the present sha256 of every photo that a receipt records; 0 if it cannot be read."""
        self._sha256: dict[str, str] = {}
        """Present sha256 by key of photos that were read again."""

    def earlier_shards(self) -> EarlierShards:
        """Returns where the photos are in the current index, also in shards whose tar was lost since."""
        codes, past = split_codes(self._manifest), self._past
        shards = [account.shard for account in past.accounts]
        code = np.array([SPLITS.index(shard.split) for shard in shards], np.int32)
        number = np.array([shard.number for shard in shards], np.int64)
        found = np.full(len(codes), -1, np.int64)
        for rows, entries in self._pairs(self._rows):
            shard = past.shard[entries]
            is_here = past.is_last[shard] & (code[shard] == codes[rows])
            found[rows[is_here]] = number[shard[is_here]]
        last_numbers = {split: number[past.is_last & (code == n)] for n, split in enumerate(SPLITS)}
        return EarlierShards(found, {split: int(found.max(initial=-1)) + 1 for split, found in last_numbers.items()})

    def update(self, rehashed: Rehashed, hash_photos: HashPhotos, retry_downloads: bool) -> tuple[Rehashed, int]:
        """Determines the present content of every recorded photo, and reads those that may have changed.

        Returns the photos that were read and are readable, and the number of web photos that an earlier run could not
        download and that are not tried again.
        """
        table, past = self._manifest.table, self._past
        version = column_hashes(table, *VERSION)
        is_recorded, is_known = np.zeros((2, len(version)), bool)
        for rows, entries in self._pairs(self._rows):
            is_complete = past.is_complete[past.shard[entries]]
            is_recorded[rows[is_complete]] = True
            is_same = is_complete & (past.version[entries] == version[rows]) & ~is_known[rows]
            self._content[rows[is_same]], is_known[rows[is_same]] = past.content[entries[is_same]], True
        if rehashed:
            columns = zip(*((key, source, token) for key, (source, token, _) in rehashed.items()), strict=True)
            sha256_of_version = dict(zip(text_hashes(*columns).tolist(), rehashed.values(), strict=True))
            rows = np.flatnonzero(is_recorded & np.isin(version, np.array([*sha256_of_version])))
            self._set(rows, [sha256_of_version[found][2] for found in version[rows].tolist()])
            is_known[rows] = True
        is_missing = np.zeros(len(version), bool)
        is_missing[missing_rows(table, self._manifest.root)] = True
        gone = np.flatnonzero(is_missing & is_recorded)
        self._set(gone, self._last_sha256(self._manifest.rows(gone)))
        is_unread = is_recorded & ~is_missing & (self._content == 0)
        is_dead_url = is_unread & is_known & pc.equal(table["version_token"], "").to_numpy()
        unknown = np.flatnonzero(is_unread if retry_downloads else is_unread & ~is_dead_url)
        photos = self._manifest.rows(unknown)
        hashed = hash_photos(photos) if len(unknown) else {}
        if hashed:
            self._set(unknown, [hashed[photo.key] for photo in photos])
        found = {p.key: (p.source, p.version_token, hashed[p.key]) for p in photos if hashed[p.key]}
        return found, 0 if retry_downloads else int(is_dead_url.sum())

    def find_shard(self, group: str, photos: Photos, plan_digest: str) -> int | None:
        """Returns the complete receipt with exactly these photos and their present bytes, by its number.

        `group` is the split of a shard, or the shard of a part.
        """
        order = photos.numbers[np.argsort(self._key[photos.numbers])]
        for shard in self._past.by_plan.get((group, plan_digest), ()):
            entries = self._past.entries(shard)
            by_key = np.argsort(self._past.key[entries])
            if np.array_equal(self._past.key[entries][by_key], self._key[order]) and np.array_equal(
                self._past.content[entries][by_key], self._content[order]
            ):
                return shard
        return None

    def find_regions(self, photos: Photos) -> tuple[str, ...]:
        """Returns the shard or part that has the regions of each photo's present bytes; '' for a photo without."""
        accounts, receipts = self._past.accounts, self._receipts_of(photos, only_written=True)
        return tuple(accounts[receipt].shard.name if receipt >= 0 else "" for receipt in receipts)

    def sha256_of(self, photos: Photos) -> dict[str, str]:
        """Returns the present sha256 of photos that receipts record, by key; '' for one that cannot be read."""
        receipts = self._receipts_of(photos, only_written=False)
        read = {n: read_receipt(self._store, self._past.accounts[n].shard.name) for n in set(receipts) if n >= 0}
        stored = {n: {entry.key: entry.sha256 for entry in found.planned} for n, found in read.items() if found}
        return {
            photo.key: self._sha256.get(photo.key, stored.get(receipt, {}).get(photo.key, "")) if content else ""
            for photo, receipt, content in zip(photos, receipts, self._content[photos.numbers], strict=True)
        }

    def _last_sha256(self, photos: Photos) -> list[str]:
        """Returns the last sha256 that a complete receipt has for the source of each photo; '' if it was never read."""
        past, found = self._past, dict[str, str]()
        for at, entries in self._pairs(photos.numbers):
            is_read = past.is_complete[past.shard[entries]] & (past.content[entries] != 0)
            of_receipt: dict[int, list[Photo]] = defaultdict(list)
            for position, receipt in zip(at[is_read].tolist(), past.shard[entries[is_read]].tolist(), strict=True):
                of_receipt[receipt].append(photos[position])
            for receipt, some in of_receipt.items():
                stored = read_receipt(self._store, past.accounts[receipt].shard.name)
                entry_of = {entry.key: entry for entry in stored.planned} if stored else {}
                for photo in some:
                    if photo.key in entry_of and entry_of[photo.key].source == photo.source:
                        found.setdefault(photo.key, entry_of[photo.key].sha256)
        return [found.get(photo.key, "") for photo in photos]

    def _receipts_of(self, photos: Photos, only_written: bool) -> list[int]:
        """Returns the first complete receipt that has the present bytes of each photo, or -1."""
        past, rows = self._past, photos.numbers
        found = np.full(len(rows), -1)
        for at, entries in self._pairs(rows):
            content, receipt = self._content[rows[at]], past.shard[entries]
            fits = past.is_complete[receipt] & (past.content[entries] == content) & (content != 0)
            fits &= (found[at] < 0) & (past.is_written[entries] | (not only_written))
            found[at[fits]] = receipt[fits]
        return found.tolist()

    def _pairs(self, rows: _Rows) -> Iterator[tuple[_Rows, _Rows]]:
        """Yields positions in `rows`, and an entry of each, in the order of a row's entries."""
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            at, number = np.arange(start, min(start + _ROWS_AT_ONCE, len(rows))), 0
            while len(at := at[self._count[rows[at]] > number]):
                yield at, self._by_key[self._first[rows[at]] + number]
                number += 1

    def _set(self, rows: _Rows, sha256: Sequence[str]) -> None:
        """Sets the present content of photos."""
        self._content[rows] = text_hashes(sha256)
        self._sha256 |= dict(zip((photo.key for photo in self._manifest.rows(rows)), sha256, strict=True))
