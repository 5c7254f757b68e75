"""What an extraction has to do, given what earlier ones left: the plan held against the store.

A shard is there when its receipt and its tar are. Every such shard counts, also those of extractions that were never
finished or were superseded: it is taken again if it was planned of the same rows and holds the photos' present bytes,
and otherwise its regions are taken of photos whose bytes are the same. A photo is read again only if its version token
or source differs from what was noted, or if it could not be read before.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from infra.storage.base import Store
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.extraction.shard_plan import Group, group_photos
from pipelines.features.shards import (
    SHARD_NAME,
    Receipt,
    Rejection,
    Written,
    canonical_json,
    read_receipt,
    read_receipts,
    receipt_name,
    tar_name,
)

HashPhotos = Callable[[list[Photo]], dict[str, str]]
"""Photos to the sha256 of their files as they are now, by key; '' for one that cannot be read."""
REHASHED = "rehashed-photos.json"
"""Object that keeps what reruns found of photos that were touched or moved: key to source, version token and sha256."""


@dataclass(frozen=True)
class Place:
    """Where a photo's regions already are."""

    tar: str
    sha256: str
    """Of the tar."""
    offsets: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be: its name without ending, its photos in order, and which of them need no detector."""

    name: str
    photos: tuple[Photo, ...]
    reuse: Mapping[str, Place]


@dataclass(frozen=True)
class FeatureSetPlan:
    """Every shard in order, and the receipts of those that are there."""

    shards: tuple[ShardPlan, ...]
    receipts: Mapping[str, Receipt]
    rehashed: Mapping[str, tuple[str, str, str]]
    """Source, version token and sha256 of photos that had to be read to see whether they changed, by key."""

    @property
    def missing(self) -> list[ShardPlan]:
        """What is to be written."""
        return [shard for shard in self.shards if shard.name not in self.receipts]

    @property
    def photo_count(self) -> int:
        """Photos in all shards: each of them will be written or rejected."""
        return sum(len(shard.photos) for shard in self.shards)


def plan_feature_set(
    manifest: Manifest, photos_per_shard: int, store: Store, last: Sequence[str], hash_photos: HashPhotos
) -> FeatureSetPlan:
    """The plan of a manifest on a store where `last` are the shards of the last finished extraction, in order."""
    listed = store.objects()
    receipts = read_receipts(store, [name[: -len(".tar")] for name in listed if _is_tar(name, listed)])
    # Photos stay in the shard where they were, even if its tar was lost since.
    earlier = [receipts.get(name) or read_receipt(store, name) for name in last]
    past = _Past(receipts, last, _read_rehashed(store) if REHASHED in listed else {}, manifest, hash_photos)
    shards, there = [], {}
    for group in group_photos(manifest, photos_per_shard, [receipt for receipt in earlier if receipt]):
        found = past.shard(group)
        if found:
            there[found.shard] = found
            shards.append(ShardPlan(found.shard, group.photos, {}))
        else:
            taken = group.shard() in receipts
            name = group.shard({photo.key: past.now[photo.key] for photo in group.photos} if taken else None)
            shards.append(ShardPlan(name, group.photos, past.places(group.photos)))
    return FeatureSetPlan(tuple(shards), there, past.rehashed)


def write_rehashed(store: Store, plan: FeatureSetPlan) -> None:
    """So that the next rerun need not read the same photos again."""
    if plan.rehashed:
        store.replace(REHASHED, canonical_json({**_read_rehashed(store), **plan.rehashed}))


def _is_tar(name: str, listed: Mapping[str, object]) -> bool:
    shard = name.removesuffix(".tar")
    return name != shard and bool(SHARD_NAME.fullmatch(shard)) and receipt_name(shard) in listed


def _read_rehashed(store: Store) -> dict[str, tuple[str, str, str]]:
    try:
        return {key: (source, token, sha) for key, (source, token, sha) in json.loads(store.read(REHASHED)).items()}
    except FileNotFoundError:
        return {}


class _Past:
    """What receipts know of the manifest's photos, and what has become of those photos since."""

    def __init__(
        self,
        receipts: Mapping[str, Receipt],
        last: Sequence[str],
        rehashed: Mapping[str, tuple[str, str, str]],
        manifest: Manifest,
        hash_photos: HashPhotos,
    ) -> None:
        self._rows: dict[str, list[tuple[Receipt, Written | Rejection]]] = defaultdict(list)
        self._shards: dict[tuple[str, str], list[Receipt]] = defaultdict(list)
        order = {name: place for place, name in enumerate(last)}  # the last extraction is believed first
        for name in sorted(receipts, key=lambda name: (order.get(name, len(order)), name)):
            receipt = receipts[name]
            self._shards[receipt.split, receipt.rows].append(receipt)
            for row in receipt.planned:
                self._rows[row.key].append((receipt, row))
        self.now: dict[str, str] = {}
        """sha256 of every photo that a receipt knows, as it is now; '' if it cannot be read."""
        suspects = []
        for photo in manifest.photos():
            seen = {(row.source, row.version_token): row.sha256 for _, row in reversed(self._rows.get(photo.key, []))}
            if photo.key in rehashed:
                source, token, sha = rehashed[photo.key]
                seen[source, token] = sha
            if photo.key in self._rows:
                self.now[photo.key] = seen.get((photo.source, photo.version_token), "")
                if not self.now[photo.key]:  # another file than any that was read, or one that could not be read
                    suspects.append(photo)
        hashed = hash_photos(suspects) if suspects else {}
        self.now |= hashed
        self.rehashed = {p.key: (p.source, p.version_token, hashed[p.key]) for p in suspects if hashed[p.key]}

    def shard(self, group: Group) -> Receipt | None:
        """A shard of just these rows that holds the photos' present bytes."""
        for receipt in self._shards.get((group.split, group.rows), []):
            if all(self.now[row.key] == row.sha256 for row in receipt.planned):
                return receipt
        return None

    def places(self, photos: Iterable[Photo]) -> dict[str, Place]:
        """Where regions of these photos' present bytes are, by key."""
        found = {}
        for photo in photos:
            for receipt, row in self._rows.get(photo.key, ()):
                if isinstance(row, Written) and row.sha256 == self.now[photo.key] != "":
                    found[photo.key] = Place(tar_name(receipt.shard), receipt.sha256, row.offsets)
                    break
        return found
