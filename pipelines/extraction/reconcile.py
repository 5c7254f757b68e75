"""Compares a manifest with what earlier extractions stored, and returns the shards that are still to be written.

A shard is complete when its receipt and its tar exist. Every complete shard counts, also those of extractions that
were not finished or were replaced since. A shard is reused if it was planned with the same photos and contains their
current bytes; otherwise the regions of photos with unchanged bytes are copied from it. A photo is read again only if
its version token or source differs from the recorded one, or if it could not be read before. A photo that does not
exist counts as unchanged: its regions are kept while it is in the data set. Without regions it is one that cannot be
read. A web photo that could not be downloaded, perhaps one of thousands on a dead server, is tried again only on
request. The same holds for the parts of a shard.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.datasets.manifest import Manifest, Photos
from pipelines.extraction.history import HashPhotos, History
from pipelines.extraction.receipt_entries import ReceiptEntries
from pipelines.features.account import Account
from pipelines.features.index import InvalidIndexError, read_index
from pipelines.features.layout import INDEX, REHASHED, complete_parts, complete_shards, shard_of_part
from pipelines.features.receipt import read_receipts
from pipelines.features.rehashed import Rehashed, read_rehashed
from pipelines.features.shard_plan import digest_of, plan_shards


@dataclass(frozen=True)
class ShardTask:
    """One shard to write: its name, its photos in order, and what of it is stored already."""

    name: str
    photos: Photos
    plan_digest: str
    photos_per_part: int
    stored: tuple[str, ...] = ()
    """For every photo, the shard or part with its regions, or '' if it must be detected; empty if none is stored."""
    done: Mapping[int, Account] = field(default_factory=dict)
    """Complete parts by number."""

    @property
    def part_count(self) -> int:
        """Number of parts, 1 for a shard that is written at once."""
        return -(-len(self.photos) // self.photos_per_part)

    @property
    def to_detect(self) -> NDArray[np.int64]:
        """Positions of the photos that need detection, or are rejected."""
        positions = np.arange(len(self.photos))
        is_open = ~np.isin(positions // self.photos_per_part, list(self.done))
        return positions[is_open & (np.array(self.stored) == "" if self.stored else True)]


@dataclass(frozen=True)
class FeatureSetPlan:
    """Every shard of a feature set in order: the accounts of complete shards, and the others as tasks."""

    shards: tuple[str, ...]
    """Names of all shards."""
    complete: Mapping[str, Account]
    missing: tuple[ShardTask, ...]
    """Shards to write."""
    photo_count: int
    """Photos in all shards: each of them is written or rejected in the end."""
    rehashed: Rehashed
    """Photos that were read again and are readable."""
    has_parts: bool = False
    """Whether there are parts of shards, of which some may be left over."""
    not_retried: int = 0
    """Web photos that earlier runs could not download and that count as unchanged."""


def reconcile(
    manifest: Manifest,
    photos_per_shard: int,
    photos_per_part: int,
    store: Store,
    hash_photos: HashPhotos,
    retry_downloads: bool,
) -> FeatureSetPlan:
    """Plans the feature set of a manifest in a store, and writes nothing. Raises UserError for an invalid index."""
    listed = sorted(name for name, _ in store.scan())
    complete = [*complete_shards(listed), *complete_parts(listed)]
    last = _last_shards(store) if INDEX in listed else []
    # Photos stay in their shard even if its tar was lost since.
    receipts = read_receipts(store, dict.fromkeys([*last, *complete]))
    past = ReceiptEntries((receipt for receipt in receipts if receipt), set(complete), last)
    history = History(store, manifest, past)
    rehashed = read_rehashed(store) if REHASHED in listed else {}
    found, not_retried = history.update(rehashed, hash_photos, retry_downloads)
    names = {account.shard.name for account in past.accounts} & set(complete)
    with_parts = set(map(shard_of_part, names))
    shards: list[str] = []
    accounts: dict[str, Account] = {}
    missing: list[ShardTask] = []
    for shard in plan_shards(manifest, photos_per_shard, history.earlier_shards()):
        photos = shard.photos
        assert isinstance(photos, Photos)
        number = history.find_shard(shard.split, photos, shard.plan_digest)
        if number is not None:
            name = past.accounts[number].shard.name
            accounts[name] = past.accounts[number]
        else:
            name = shard.name(history.sha256_of(photos) if shard.name() in names else None)
            stored = history.find_regions(photos)
            done = _parts(history, past, name, photos, photos_per_part) if name in with_parts else {}
            stored = stored if any(stored) else ()
            missing.append(ShardTask(name, photos, shard.plan_digest, photos_per_part, stored, done))
        shards.append(name)
    has_parts = any(".part-" in name for name in listed)
    return FeatureSetPlan(
        tuple(shards), accounts, tuple(missing), manifest.table.num_rows, found, has_parts, not_retried
    )


def _parts(
    history: History, past: ReceiptEntries, shard: str, photos: Photos, photos_per_part: int
) -> dict[int, Account]:
    """Returns the complete parts of a shard by number."""
    found = {}
    for number, start in enumerate(range(0, len(photos), photos_per_part)):
        part = photos[start : start + photos_per_part]
        receipt = history.find_shard(shard, part, digest_of(part))
        if receipt is not None:
            found[number] = past.accounts[receipt]
    return found


def _last_shards(store: Store) -> list[str]:
    """Returns the shards of the current index."""
    try:
        return [shard.name for shard in read_index(store).shards]
    except InvalidIndexError as error:
        raise UserError(
            f"{store.uri}: its {INDEX} is not a valid feature-set index ({error.reason}); delete it to extract "
            "again, or choose another extract.output"
        ) from error
