"""Compares a manifest with what earlier extractions stored, and returns the shards that are still to be written.

A shard is complete when its receipt and its tar exist. Every complete shard counts, also those of extractions that
were not finished or were replaced since. A shard is reused if it was planned with the same photos and contains their
current bytes; otherwise the regions of photos with unchanged bytes are copied from it. A photo is read again only if
its version token or source differs from the recorded one, or if it could not be read before. A photo that does not
exist counts as unchanged: its regions are kept while it is in the data set. Without regions it is one that cannot be
read. A web photo that could not be downloaded, perhaps one of thousands on a dead server, is tried again only on
request.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.datasets.photo_sources import is_missing
from pipelines.features.index import InvalidIndexError, read_index
from pipelines.features.layout import INDEX, REHASHED, complete_shards, tar_name
from pipelines.features.receipt import Receipt, Rejection, Written, read_receipt, read_receipts
from pipelines.features.rehashed import Rehashed, read_rehashed
from pipelines.features.shard_plan import PlannedShard, plan_shards

HashPhotos = Callable[[list[Photo]], dict[str, str]]
"""Returns the sha256 of photos as they are now, by key; '' for one that cannot be read."""


@dataclass(frozen=True)
class StoredRegions:
    """Where a photo's regions are stored already."""

    tar: str
    sha256: str
    """Digest of the tar."""
    offsets: tuple[tuple[int, int], ...]
    """As in the receipt."""


@dataclass(frozen=True)
class ShardTask:
    """One shard of the plan: its name, its photos in order, and the regions that need no detection, by key."""

    name: str
    photos: tuple[Photo, ...]
    reuse: Mapping[str, StoredRegions]


@dataclass(frozen=True)
class FeatureSetPlan:
    """Every shard of a feature set in order, and the receipts of those that are complete."""

    shards: tuple[ShardTask, ...]
    receipts: Mapping[str, Receipt]
    rehashed: Rehashed
    """Photos that were read again and are readable."""
    not_retried: int = 0
    """Web photos that earlier runs could not download and that count as unchanged."""

    @property
    def missing(self) -> list[ShardTask]:
        """Shards to write."""
        return [task for task in self.shards if task.name not in self.receipts]

    @property
    def photo_count(self) -> int:
        """Photos in all shards: each of them is written or rejected in the end."""
        return sum(len(task.photos) for task in self.shards)


def reconcile(
    manifest: Manifest, photos_per_shard: int, store: Store, hash_photos: HashPhotos, retry_downloads: bool
) -> FeatureSetPlan:
    """Plans the feature set of a manifest in a store, and writes nothing. Raises UserError for an invalid index."""
    listed = store.objects()
    receipts = read_receipts(store, complete_shards(listed))
    last = _last_shards(store) if INDEX in listed else []
    rehashed = read_rehashed(store) if REHASHED in listed else {}
    history = _History(receipts, last, manifest, rehashed, hash_photos, retry_downloads)
    # Photos stay in their shard even if its tar was lost since.
    earlier = [receipts.get(name) or read_receipt(store, name) for name in last]
    tasks, complete = [], {}
    for shard in plan_shards(manifest, photos_per_shard, [receipt for receipt in earlier if receipt]):
        receipt = history.find_shard(shard)
        if receipt:
            complete[receipt.shard] = receipt
            tasks.append(ShardTask(receipt.shard, shard.photos, {}))
        else:
            is_taken = shard.name() in receipts
            name = shard.name({photo.key: history.sha256[photo.key] for photo in shard.photos} if is_taken else None)
            tasks.append(ShardTask(name, shard.photos, history.find_regions(shard.photos)))
    return FeatureSetPlan(tuple(tasks), complete, history.rehashed, history.not_retried)


def _last_shards(store: Store) -> list[str]:
    """Returns the shards of the current index."""
    try:
        return [shard.name for shard in read_index(store).shards]
    except InvalidIndexError as error:
        raise UserError(
            f"{store.uri}: its {INDEX} is not a valid feature-set index ({error.reason}); delete it to extract "
            "again, or choose another extract.output"
        ) from error


class _History:
    """What receipts record about the manifest's photos, and the current sha256 of those photos."""

    def __init__(
        self,
        receipts: Mapping[str, Receipt],
        last: Sequence[str],
        manifest: Manifest,
        rehashed: Rehashed,
        hash_photos: HashPhotos,
        retry_downloads: bool,
    ) -> None:
        self._entries: dict[str, list[tuple[Receipt, Written | Rejection]]] = defaultdict(list)
        self._shards: dict[tuple[str, str], list[Receipt]] = defaultdict(list)
        order = {name: rank for rank, name in enumerate(last)}  # shards of the current index come first
        for name in sorted(receipts, key=lambda name: (order.get(name, len(order)), name)):
            receipt = receipts[name]
            self._shards[receipt.split, receipt.plan_digest].append(receipt)
            for entry in receipt.planned:
                self._entries[entry.key].append((receipt, entry))
        self.sha256: dict[str, str] = {}
        """Present sha256 of every photo that a receipt records; '' if the photo cannot be read."""
        self.not_retried = 0
        unknown = []
        for photo in manifest.photos():
            if photo.key not in self._entries:
                continue
            if is_missing(photo, manifest.root):
                self.sha256[photo.key] = self._last_sha256(photo)
                continue
            recorded = self._recorded_sha256(photo, rehashed)
            is_dead_url = recorded == "" and not photo.version_token
            if recorded:
                self.sha256[photo.key] = recorded
            elif is_dead_url and not retry_downloads:
                self.sha256[photo.key] = ""
                self.not_retried += 1
            else:
                unknown.append(photo)
        hashed = hash_photos(unknown) if unknown else {}
        self.sha256 |= hashed
        self.rehashed = {p.key: (p.source, p.version_token, hashed[p.key]) for p in unknown if hashed[p.key]}

    def _recorded_sha256(self, photo: Photo, rehashed: Rehashed) -> str | None:
        """Returns the sha256 recorded for this source and version token; '' if it was unreadable, None without one."""
        recorded = {
            (entry.source, entry.version_token): entry.sha256 for _, entry in reversed(self._entries[photo.key])
        }
        if photo.key in rehashed:
            source, token, sha = rehashed[photo.key]
            recorded[source, token] = sha
        return recorded.get((photo.source, photo.version_token))

    def _last_sha256(self, photo: Photo) -> str:
        """Returns the last sha256 recorded for this source; '' if it was never read."""
        found = (entry.sha256 for _, entry in self._entries[photo.key] if entry.source == photo.source)
        return next(filter(None, found), "")

    def find_shard(self, shard: PlannedShard) -> Receipt | None:
        """Returns the receipt of a complete shard with exactly these photos and their current bytes."""
        for receipt in self._shards.get((shard.split, shard.plan_digest), []):
            if all(self.sha256[entry.key] == entry.sha256 for entry in receipt.planned):
                return receipt
        return None

    def find_regions(self, photos: Iterable[Photo]) -> dict[str, StoredRegions]:
        """Returns the tar and offsets of already extracted regions of unchanged photos, by key."""
        found = {}
        for photo in photos:
            for receipt, entry in self._entries.get(photo.key, ()):
                if isinstance(entry, Written) and entry.sha256 == self.sha256[photo.key] != "":
                    found[photo.key] = StoredRegions(tar_name(receipt.shard), receipt.sha256, entry.offsets)
                    break
        return found
