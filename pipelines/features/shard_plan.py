"""The shard plan: name, photos and order of every shard of a feature set, fixed before any work starts.

A shard's name contains a hash of its photos' keys, sources and captions (and of their bytes, where a shard with other
bytes has the plain name). Equal inputs therefore give equal names, and different content never takes a name in use. No
lock is needed: two drivers, or a rerun after a crash, work towards the same objects.

A plan that extends an earlier feature set keeps its shards: photos stay in the shard where they are, added photos get
shards of their own behind them, and a shard gets a new name only if a photo in it was removed or edited.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.datasets.manifest import SPLITS, Manifest, Photo
from pipelines.features.layout import shard_name
from pipelines.features.receipt import Receipt


@dataclass(frozen=True)
class PlannedShard:
    """The photos of one shard, in manifest order, and the shard's number within its split."""

    split: str
    number: int
    photos: tuple[Photo, ...]

    @property
    def plan_digest(self) -> str:
        """Digest of the photos' keys, sources and captions, as it is stored in the receipt."""
        return plan_digest([(photo.key, photo.source, photo.captions) for photo in self.photos])

    def name(self, contents: Mapping[str, str] | None = None) -> str:
        """Returns the shard's name. `contents`: sha256 of its photos by key, if the plain name is taken."""
        return shard_name(self.split, self.number, self.plan_digest, contents)


def plan_digest(photos: Sequence[tuple[str, str, Sequence[str]]]) -> str:
    """Returns the sha256 of (key, source, captions) of photos in order."""
    text = json.dumps([[key, source, list(captions)] for key, source, captions in photos])
    return hashlib.sha256(text.encode()).hexdigest()


def plan_shards(manifest: Manifest, photos_per_shard: int, earlier: Sequence[Receipt]) -> list[PlannedShard]:
    """Assigns the photos of a manifest to shards.

    Photos of the `earlier` shards stay in theirs. The others are cut into shards in manifest order, numbered after the
    earlier ones.
    """
    shards = []
    for split in SPLITS:
        receipts = [receipt for receipt in earlier if receipt.split == split]
        number_of_key = {photo.key: receipt.number for receipt in receipts for photo in receipt.planned}
        kept: dict[int, list[Photo]] = {}
        added: list[Photo] = []
        for photo in manifest.photos(split):
            if photo.key in number_of_key:
                kept.setdefault(number_of_key[photo.key], []).append(photo)
            else:
                added.append(photo)
        shards += [PlannedShard(split, number, tuple(photos)) for number, photos in sorted(kept.items())]
        first = max((receipt.number for receipt in receipts), default=-1) + 1
        for number, start in enumerate(range(0, len(added), photos_per_shard), first):
            shards.append(PlannedShard(split, number, tuple(added[start : start + photos_per_shard])))
    return shards
