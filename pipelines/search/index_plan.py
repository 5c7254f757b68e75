"""The partitions of an index, fixed before any work starts: a function of the feature sets and of the partition size.

A partition encodes consecutive shards of one split. Its name hashes them, so equal inputs give equal names, and a
feature set that grows keeps its partitions, except the last one of a split if that is not full.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import groupby
from typing import Any

from infra.errors import UserError
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import IndexedShard


@dataclass(frozen=True)
class PartitionTask:
    """A partition to encode."""

    name: str
    feature_set: int
    """Position of its feature set."""
    dataset: str
    shards: tuple[IndexedShard, ...]

    @property
    def gallery(self) -> str:
        """The gallery that the partition belongs to, taken from its name."""
        return self.name.split("-")[0]

    @property
    def split(self) -> str:
        """The split of its photos."""
        return self.shards[0].split

    def to_row(self) -> dict[str, Any]:
        """Returns the task as a row of Ray Data."""
        return {"task": json.dumps(asdict(self))}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "PartitionTask":
        """Returns the task of a row."""
        fields = json.loads(row["task"])
        return cls(**fields | {"shards": tuple(IndexedShard(**shard) for shard in fields["shards"])})


def plan_partitions(
    feature_sets: Sequence[FeatureSet], gallery: str, photos_per_partition: int
) -> Iterator[PartitionTask]:
    """Yields the partitions of a gallery, by feature set, split and shard. Shards without photos are left out."""
    for number, features in enumerate(feature_sets):
        for split, shards in groupby(features.index.shards, key=lambda shard: shard.split):
            for position, group in enumerate(_groups(list(shards), photos_per_partition)):
                written = tuple(shard for shard in group if shard.written)
                if written:
                    content = [features.dataset, [(shard.name, shard.sha256) for shard in written]]
                    digits = sha256(json.dumps(content).encode()).hexdigest()[:8]
                    name = f"{gallery}-{split}-{position:06d}-{digits}"
                    yield PartitionTask(name, number, features.dataset, written)


def _groups(shards: Sequence[IndexedShard], photos_per_partition: int) -> Iterator[list[IndexedShard]]:
    """Groups shards. Rejected photos count, so that a photo that can be used later moves no boundary."""
    group: list[IndexedShard] = []
    photos = 0
    for shard in shards:
        planned = shard.written + shard.rejected
        if group and photos + planned > photos_per_partition:
            yield group
            group, photos = [], 0
        group.append(shard)
        photos += planned
    if group:
        yield group


def require_one_gallery(feature_sets: Sequence[FeatureSet]) -> None:
    """Raises UserError unless the feature sets have one fingerprint and different data sets."""
    first = feature_sets[0]
    for features in feature_sets[1:]:
        if features.lineage["fingerprint"] != first.lineage["fingerprint"]:
            raise UserError(
                f"{features.uri} has features of {features.lineage['fingerprint']} but {first.uri} has features of "
                f"{first.lineage['fingerprint']}; an index needs feature sets of one detector"
            )
    datasets = [features.dataset for features in feature_sets]
    if repeated := next((name for name in datasets if datasets.count(name) > 1), None):
        raise UserError(
            f"--features has two feature sets of the data set '{repeated}'; give one of them, or extract the other "
            "one under a name of its own"
        )
