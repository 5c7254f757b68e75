"""The plan: every shard of a feature set, its members and their order, fixed before anything runs."""

import hashlib
import json
from dataclasses import dataclass

from pipelines.manifest import SPLITS, Manifest, Photo


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be: its name without ending, and its photos in order."""

    name: str
    photos: tuple[Photo, ...]


@dataclass(frozen=True)
class FeatureSetPlan:
    """The shards of one manifest under one fingerprint. Same inputs, same plan, same bytes."""

    name: str
    manifest_digest: str
    fingerprint: str
    shards: tuple[ShardPlan, ...]

    @property
    def photo_count(self) -> int:
        """Photos in all shards: each of them will be written or rejected."""
        return sum(len(shard.photos) for shard in self.shards)


def plan_feature_set(manifest: Manifest, fingerprint: str, photos_per_shard: int) -> FeatureSetPlan:
    """Cuts each split, in manifest order, into shards `features-<split>-<NNNNNN>` of at most `photos_per_shard`.

    The feature set's name carries a digest of everything that decides its bytes, so that a new detector or another
    manifest writes beside the old set and never over it.
    """
    shards = []
    for split in SPLITS:
        photos = tuple(manifest.photos(split))
        for number, start in enumerate(range(0, len(photos), photos_per_shard)):
            name = f"features-{split}-{number:06d}"
            shards.append(ShardPlan(name, photos[start : start + photos_per_shard]))
    digest = manifest.digest()
    identity = hashlib.sha256(json.dumps([digest, fingerprint, photos_per_shard]).encode()).hexdigest()
    return FeatureSetPlan(f"{manifest.name}-{identity[:12]}", digest, fingerprint, tuple(shards))
