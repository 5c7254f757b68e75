"""Writes imported photos as shards, exactly once and several at a time. Both import formats use it.

As in an extraction, a shard's name follows from its content, its objects are written once, the manifest is written
first and the index last. A rerun therefore resumes a killed import, and a rerun of a finished import writes nothing.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self, TypeVar

from infra.environment import available_cpus
from infra.map_ahead import map_ahead
from infra.paths import absolute
from infra.storage.conditional_writes import require_conditional_writes
from infra.storage.open import open_store, require_folder
from infra.storage.replacement import Replacement
from pipelines.datasets.manifest import SPLITS, Manifest
from pipelines.features.account import Account
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import DetectorDescription, InvalidIndexError, read_index
from pipelines.features.layout import INDEX, complete_shards, feature_set_name
from pipelines.features.manifests import write_manifest
from pipelines.features.ownership import require_dataset
from pipelines.features.publish import publish
from pipelines.features.quarantine import check_max_rejected
from pipelines.features.receipt import Receipt, Rejection, read_receipt
from pipelines.features.shard_plan import PlannedShard
from pipelines.features.shards import Sample, commit_shard

Item = TypeVar("Item")
Result = TypeVar("Result")
OnPhotos = Callable[[int], object]
"""Called with the number of photos of each complete shard."""
ShardContent = tuple[list[Sample], list[Rejection]]
"""What becomes of a shard's photos."""

_THREADS = min(max(available_cpus(), 2), 4)
"""Hashing, conversion and file calls release the interpreter lock: one thread reads while another writes."""
_MAX_PENDING = 2 * _THREADS
"""Most shards in progress: they determine the memory of an import."""


@dataclass(frozen=True)
class Imported:
    """A finished import and how much of it existed before."""

    feature_set: FeatureSet
    shards_written: int
    shards_reused: int
    notes: list[str]
    """Facts about the source that the user should know, one line each."""


class ShardImport:
    """An import in progress. As a context manager it stops its threads when an error occurs."""

    def __init__(
        self, manifest: Manifest, fingerprint: str, output: str, photos_per_shard: int, progress: OnPhotos
    ) -> None:
        """Writes the manifest below the root `output`.

        Raises UserError if that cannot be written, or if the folder of the feature set belongs to another data set.
        """
        name = feature_set_name(manifest.name, fingerprint, photos_per_shard)
        require_folder(output, "URI")
        self._store = open_store(f"{absolute(output).rstrip('/')}/{name}")
        self._manifest, self._fingerprint, self._progress = manifest, fingerprint, progress
        self._published = Replacement.of(self._store, INDEX)
        require_dataset(self._store, manifest)
        require_conditional_writes(self._store)
        write_manifest(self._store, manifest)
        self._complete = set(complete_shards(self._store.objects()))
        self._pool = ThreadPoolExecutor(_THREADS)
        self._pending: deque[Future[Receipt]] = deque()
        self._accounts: list[Account] = []
        self._region_bytes = (sys.maxsize, 0)
        self._reused = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def finished(self) -> Imported | None:
        """Returns the feature set if an earlier import of this source and data set has finished, otherwise None."""
        try:
            index = read_index(self._store)
        except (FileNotFoundError, InvalidIndexError):
            return None
        if index.manifest != self._manifest.digest() or not self._complete.issuperset(s.name for s in index.shards):
            return None
        feature_set = FeatureSet.open(self._store.uri)
        self._progress(self._manifest.table.num_rows)
        return Imported(feature_set, 0, len(index.shards), [])

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Applies a function to items on the threads of the import, a few ahead, and yields the results in order."""
        return map_ahead(self._pool, function, items, _MAX_PENDING)

    def add(self, shard: PlannedShard, build: Callable[[], ShardContent]) -> None:
        """Adds a shard. `build` runs on a thread, and only if the shard is not complete yet.

        Raises the error of an earlier shard.
        """
        name = shard.name()
        if name in self._complete:
            self._reused += 1
            self._pending.append(
                self._pool.submit(lambda: read_receipt(self._store, name) or self._commit(name, build))
            )
        else:
            self._pending.append(self._pool.submit(self._commit, name, build))
        while len(self._pending) > _MAX_PENDING:
            self._collect()

    def finish(self, describe: Callable[[int, int], DetectorDescription], notes: list[str]) -> Imported:
        """Waits for all shards and publishes the feature set; `describe` returns the description of its detector.

        It is called with the bytes of the smallest and of the largest `regions.npy`. Raises UserError if every photo
        was rejected.
        """
        while self._pending:
            self._collect()
        accounts = sorted(self._accounts, key=lambda a: (SPLITS.index(a.shard.split), a.shard.number))
        check_max_rejected(self._store, accounts, self._manifest.table.num_rows, cap=1)
        detector = describe(*self._region_bytes)
        feature_set = publish(self._published, self._manifest, self._fingerprint, detector, accounts)
        return Imported(feature_set, len(accounts) - self._reused, self._reused, notes)

    def _commit(self, shard: str, build: Callable[[], ShardContent]) -> Receipt:
        """Writes what is missing of a shard, or its receipt if that is corrupt."""
        return commit_shard(self._store, shard, *build())

    def _collect(self) -> None:
        receipt = self._pending.popleft().result()
        self._accounts.append(Account.of(receipt))
        sizes = [photo.offsets[0][1] for photo in receipt.written]
        least, most = self._region_bytes
        self._region_bytes = (min([least, *sizes]), max([most, *sizes]))
        self._progress(len(receipt.planned))


def describe_source(name: str, feature_dim: int, region_range: tuple[int, int]) -> DetectorDescription:
    """Returns the detector description of imported features, whose sources do not name classes."""
    return DetectorDescription(name, {}, feature_dim, region_range, class_names={}, attribute_names={})
