"""The plan: every shard of a feature set, its members and their order, fixed before anything runs.

A shard's name says what is in it: `features-<split>-<NNNNNN>-<8 hex>`, the last a hash of its photos' keys, sources and
captions, and of their bytes where a shard of the plain name holds other ones. So the same inputs give the same names,
another content never meets a name in use, and no lock is needed: two drivers, or a rerun after a crash, work towards
the same objects.

An extraction that extends an earlier one keeps the earlier shards: photos stay in the shard where they are, new ones
get shards of their own behind, and a shard is named anew only if something in it was taken out or edited.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.datasets.decode import LONGEST_SIDE
from pipelines.datasets.manifest import SPLITS, Manifest, Photo
from pipelines.features.shards import Receipt


@dataclass(frozen=True)
class Group:
    """The photos of one shard, in manifest order, and its place in the split."""

    split: str
    number: int
    photos: tuple[Photo, ...]

    @property
    def rows(self) -> str:
        """Digest of the photos' keys, sources and captions: what a receipt notes of them."""
        return rows_digest([(photo.key, photo.source, photo.captions) for photo in self.photos])

    def shard(self, contents: Mapping[str, str] | None = None) -> str:
        """Name of the shard; `contents`: sha256 of its photos, where the plain name is taken by others."""
        return shard_name(self.split, self.number, self.rows, contents)


def rows_digest(rows: Sequence[tuple[str, str, Sequence[str]]]) -> str:
    """sha256 of key, source and captions of photos in order."""
    text = json.dumps([[key, source, list(captions)] for key, source, captions in rows])
    return hashlib.sha256(text.encode()).hexdigest()


def shard_name(split: str, number: int, rows: str, contents: Mapping[str, str] | None = None) -> str:
    """Name of a shard from its place, the digest of its rows and, if wanted, its photos' bytes."""
    text = json.dumps([rows, dict(sorted((contents or {}).items()))])
    return f"features-{split}-{number:06d}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def feature_set_name(dataset: str, fingerprint: str, photos_per_shard: int) -> str:
    """Folder of a feature set: `<dataset>-<detector>-<12 hex>`, the last a hash of all that decides its numbers.

    Another detector, other settings or shards of another size write beside the old set and never over it.
    """
    identity = hashlib.sha256(json.dumps([fingerprint, photos_per_shard, LONGEST_SIDE]).encode()).hexdigest()
    return f"{dataset}-{fingerprint.rpartition('-')[0] or fingerprint}-{identity[:12]}"


def group_photos(manifest: Manifest, photos_per_shard: int, earlier: Sequence[Receipt]) -> list[Group]:
    """The photos of a manifest by shard: those of `earlier` shards stay there, the rest is cut in manifest order."""
    groups = []
    for split in SPLITS:
        shards = [receipt for receipt in earlier if receipt.split == split]
        home = {row.key: r.number for r in shards for row in r.planned}
        kept: dict[int, list[Photo]] = {}
        added: list[Photo] = []
        for photo in manifest.photos(split):
            kept.setdefault(home[photo.key], []).append(photo) if photo.key in home else added.append(photo)
        groups += [Group(split, number, tuple(photos)) for number, photos in sorted(kept.items())]
        first = max((receipt.number for receipt in shards), default=-1) + 1
        for number, start in enumerate(range(0, len(added), photos_per_shard), first):
            groups.append(Group(split, number, tuple(added[start : start + photos_per_shard])))
    return groups
