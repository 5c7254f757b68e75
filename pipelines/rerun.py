"""What an extraction has to do, given what earlier ones left: the plan held against the store.

A shard is there when its receipt and its tar are. A photo is read again only if its stamp or source differs from what
the receipt noted, and detected again only if its bytes differ then: other captions, or photos that were moved, cost no
detector.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from infra.store import Store
from pipelines.manifest import Manifest, Photo
from pipelines.plan import Group, group_photos
from pipelines.shards import Receipt, Rejection, Written, receipt_name, tar_name

HashPhotos = Callable[[list[Photo]], dict[str, str]]
"""Photos to the sha256 of their files as they are now, by key; '' for one that cannot be read."""


@dataclass(frozen=True)
class Place:
    """Where a photo's regions already are."""

    tar: str
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

    @property
    def missing(self) -> list[ShardPlan]:
        """What is to be written."""
        return [shard for shard in self.shards if shard.name not in self.receipts]

    @property
    def photo_count(self) -> int:
        """Photos in all shards: each of them will be written or rejected."""
        return sum(len(shard.photos) for shard in self.shards)


def plan_feature_set(
    manifest: Manifest, photos_per_shard: int, store: Store, earlier: Sequence[Receipt], hash_photos: HashPhotos
) -> FeatureSetPlan:
    """The plan of a manifest on a store where `earlier` are the receipts of the last finished extraction."""
    listed = store.objects()

    def is_there(shard: str) -> bool:
        return receipt_name(shard) in listed and tar_name(shard) in listed

    earlier = [receipt for receipt in earlier if is_there(receipt.shard)]
    groups = group_photos(manifest, photos_per_shard, earlier)
    known = {receipt.shard: receipt for receipt in earlier}
    plain = [group.shard() for group in groups]
    known |= read_receipts(store, [name for name in plain if name not in known and is_there(name)])
    past = _Past(known.values(), manifest, hash_photos)
    named = {_name(group, known.get(name), past): group for name, group in zip(plain, groups, strict=True)}
    known |= read_receipts(store, [name for name in named if name not in known and is_there(name)])
    shards = [ShardPlan(name, g.photos, {} if name in known else past.places(g.photos)) for name, g in named.items()]
    return FeatureSetPlan(tuple(shards), {name: known[name] for name in named if name in known})


def read_receipts(store: Store, shards: Iterable[str]) -> dict[str, Receipt]:
    """Receipts by shard, read by several threads at once: an object store answers slowly but to many."""
    with ThreadPoolExecutor(16) as pool:
        receipts = pool.map(lambda shard: Receipt.from_json(store.read(receipt_name(shard))), shards)
        return {receipt.shard: receipt for receipt in receipts}


def _name(group: Group, plain: Receipt | None, past: "_Past") -> str:
    """The plain name, unless a shard of that name holds other bytes of a photo than it has now."""
    if plain is None:
        return group.shard()
    held = {row.key: row.sha256 for row in plain.planned}
    return group.shard({key: now for key, old in held.items() if (now := past.now[key]) != old})


class _Past:
    """What receipts know of the manifest's photos, and what has become of those photos since."""

    def __init__(self, receipts: Iterable[Receipt], manifest: Manifest, hash_photos: HashPhotos) -> None:
        self._rows: dict[str, list[tuple[str, Written | Rejection]]] = defaultdict(list)
        for receipt in receipts:
            for row in receipt.planned:
                self._rows[row.key].append((receipt.shard, row))
        self.now: dict[str, str] = {}
        """sha256 of every photo that a receipt knows, as it is now."""
        suspects = []
        for photo in manifest.photos():
            if photo.key in self._rows:
                last = self._rows[photo.key][0][1]
                self.now[photo.key] = last.sha256
                if (last.source, last.stamp) != (photo.source, photo.stamp):
                    suspects.append(photo)
        if suspects:
            self.now |= hash_photos(suspects)

    def places(self, photos: Iterable[Photo]) -> dict[str, Place]:
        """Where regions of these photos' present bytes are, by key."""
        found = {}
        for photo in photos:
            for shard, row in self._rows.get(photo.key, ()):
                if isinstance(row, Written) and row.sha256 == self.now[photo.key]:
                    found[photo.key] = Place(tar_name(shard), row.offsets)
                    break
        return found
