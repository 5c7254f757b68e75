"""The half that both imports share: groups of photos to shards, exactly once, several at a time.

As in an extraction, a shard's name says what it is made of, its objects are created once, the manifest is written first
and the index last. So a rerun goes on where a run was killed, and a rerun of a finished import writes nothing.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from infra.environment import available_cpus
from infra.errors import UserError
from infra.storage.open import open_store, require_durable_path
from pipelines.datasets.manifest import SPLITS, Manifest
from pipelines.extraction.shard_plan import Group, feature_set_name
from pipelines.features.feature_set import FeatureSet, write_index, write_manifest
from pipelines.features.quarantine import write_quarantine_report
from pipelines.features.shards import Receipt, Rejection, Sample, commit_shard, receipt_name, tar_name

Progress = Callable[[int], object]
Content = tuple[list[Sample], list[Rejection]]
"""What becomes of a group's photos."""

_THREADS = min(max(available_cpus(), 2), 4)
"""Hashing, conversion and file calls leave the interpreter lock to others: one thread reads while another writes."""
_AHEAD = 2 * _THREADS
"""Shards under way at most: their memory is what an import needs."""


@dataclass(frozen=True)
class Imported:
    """A finished import and how much of it was already there."""

    feature_set: FeatureSet
    shards_written: int
    shards_reused: int
    notes: list[str]
    """What a user should know of the source, a line each."""


class ShardImport:
    """An import under way; a context manager, so that an error ends its threads."""

    def __init__(
        self, manifest: Manifest, fingerprint: str, output: str, photos_per_shard: int, progress: Progress
    ) -> None:
        name = feature_set_name(manifest.name, fingerprint, photos_per_shard)
        require_durable_path(output, "URI")
        self._store = open_store(f"{output.rstrip('/')}/{name}")
        self._manifest, self._fingerprint, self._progress = manifest, fingerprint, progress
        write_manifest(self._store, manifest)
        self._listed = self._store.objects()
        self._pool = ThreadPoolExecutor(_THREADS)
        self._under_way: deque[Future[Receipt]] = deque()
        self._receipts: list[Receipt] = []
        self._reused = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, group: Group, build: Callable[[], Content]) -> None:
        """A shard; `build` is called, on a thread, only if it is not there yet. Raises what an earlier one raised."""
        shard = group.shard()
        if receipt_name(shard) in self._listed and tar_name(shard) in self._listed:
            self._reused += 1
            self._under_way.append(self._pool.submit(self._receipt, shard))
        else:
            self._under_way.append(self._pool.submit(lambda: commit_shard(self._store, shard, *build())))
        while len(self._under_way) > _AHEAD:
            self._take()

    def finish(self, describe: Callable[[Sequence[Receipt]], dict[str, Any]], notes: list[str]) -> Imported:
        """Waits for all shards, writes the index; `describe` gives its `detector`. UserError if nothing is usable."""
        while self._under_way:
            self._take()
        receipts = sorted(self._receipts, key=lambda receipt: (SPLITS.index(receipt.split), receipt.number))
        write_quarantine_report(self._store, receipts)
        if not any(receipt.written for receipt in receipts):
            rejected = [row for receipt in receipts for row in receipt.rejected]
            (reason, count), *_ = Counter(row.reason for row in rejected).most_common(1)
            raise UserError(
                f"{self._manifest.name}: all {len(rejected)} photos were rejected, {count} x '{reason}'; "
                "see its quarantine.parquet and mend the source"
            )
        features = write_index(self._store, self._manifest, self._fingerprint, describe(receipts), receipts)
        return Imported(features, len(receipts) - self._reused, self._reused, notes)

    def _receipt(self, shard: str) -> Receipt:
        return Receipt.from_json(self._store.read(receipt_name(shard)))

    def _take(self) -> None:
        receipt = self._under_way.popleft().result()
        self._receipts.append(receipt)
        self._progress(len(receipt.planned))


def describe(detector: str, feature_dim: int, region_range: tuple[int, int]) -> dict[str, Any]:
    """The `detector` entry of an index, as an extraction writes it; sources have no names of classes."""
    return {
        "name": detector,
        "settings": {},
        "feature_dim": feature_dim,
        "regions": list(region_range),
        "class_names": {},
        "attribute_names": {},
    }
