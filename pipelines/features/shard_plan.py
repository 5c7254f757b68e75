"""The shard plan: name, photos and order of every shard of a feature set, fixed before any work starts.

A shard's name contains a hash of its photos' keys, sources and captions (and of their bytes, where a shard with other
bytes has the plain name). Equal inputs therefore give equal names, and different content never takes a name in use. No
lock is needed: two drivers, or a rerun after a crash, work towards the same objects.

A plan that extends an earlier feature set keeps its shards: photos stay in the shard where they are, added photos get
shards of their own behind them, and a shard gets a new name only if a photo in it was removed or edited.

A shard of more photos than one part is written as parts, each committed like a shard, which are then joined. A part's
name follows from the shard's and from its own photos.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.datasets.manifest import SPLITS, Manifest, Photo, Photos
from pipelines.features.layout import part_name, shard_name


@dataclass(frozen=True)
class PlannedShard:
    """The photos of one shard, in manifest order, and the shard's number within its split."""

    split: str
    number: int
    photos: Sequence[Photo]

    @cached_property
    def plan_digest(self) -> str:
        """Digest of the photos' keys, sources and captions, as it is stored in the receipt."""
        return digest_of(self.photos)

    def name(self, contents: Mapping[str, str] | None = None) -> str:
        """Returns the shard's name. `contents`: sha256 of its photos by key, if the plain name is taken."""
        return shard_name(self.split, self.number, self.plan_digest, contents)


@dataclass(frozen=True)
class PlannedPart:
    """The photos that are fetched, detected and committed at once: a part of a shard, or a complete small shard."""

    name: str
    photos: Sequence[Photo]


@dataclass(frozen=True)
class EarlierShards:
    """Where the photos of a manifest are in the feature set that it extends."""

    number_of_row: NDArray[np.int64]
    """For every row of the manifest, the number of the shard of its split that it is in, or -1."""
    next_number: Mapping[str, int] = field(default_factory=dict)
    """Number of the first new shard by split."""


def digest_of(photos: Sequence[Photo]) -> str:
    """Returns `plan_digest` of photos."""
    if isinstance(photos, Photos):
        return plan_digest(photos.columns("key", "source", "captions"))
    return plan_digest((photo.key, photo.source, photo.captions) for photo in photos)


def plan_digest(photos: Iterable[tuple[str, str, Sequence[str]]]) -> str:
    """Returns the sha256 of (key, source, captions) of photos in order."""
    return hashlib.sha256(json.dumps(list(photos)).encode()).hexdigest()


def plan_shards(
    manifest: Manifest, photos_per_shard: int, earlier: EarlierShards | None = None
) -> Iterator[PlannedShard]:
    """Assigns the photos of a manifest to shards, split by split.

    Photos of the `earlier` shards stay in theirs. The others are cut into shards in manifest order, numbered after the
    earlier ones.
    """
    codes = split_codes(manifest)
    for code, split in enumerate(SPLITS):
        rows = np.flatnonzero(codes == code)
        first = 0
        if earlier is not None:
            is_kept = earlier.number_of_row[rows] >= 0
            kept, rows = rows[is_kept], rows[~is_kept]
            kept = kept[np.argsort(earlier.number_of_row[kept], kind="stable")]
            starts = np.flatnonzero(np.diff(earlier.number_of_row[kept])) + 1
            for group in np.split(kept, starts) if len(kept) else ():
                yield PlannedShard(split, int(earlier.number_of_row[group[0]]), manifest.rows(group))
            first = earlier.next_number.get(split, 0)
        for number, start in enumerate(range(0, len(rows), photos_per_shard), first):
            yield PlannedShard(split, number, manifest.rows(rows[start : start + photos_per_shard]))


def split_codes(manifest: Manifest) -> NDArray[np.int32]:
    """Returns the position in SPLITS of the split of every photo."""
    return pc.index_in(manifest.table["split"], pa.array(SPLITS)).to_numpy().astype(np.int32)


def plan_parts(shard: str, photos: Sequence[Photo], photos_per_part: int) -> list[PlannedPart]:
    """Returns the parts of a shard; one part that is the shard if it has no more photos than a part."""
    if len(photos) <= photos_per_part:
        return [PlannedPart(shard, photos)]
    cuts = (photos[start : start + photos_per_part] for start in range(0, len(photos), photos_per_part))
    return [PlannedPart(part_name(shard, number, digest_of(cut)), cut) for number, cut in enumerate(cuts)]
