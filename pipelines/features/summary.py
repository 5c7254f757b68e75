"""A feature set in numbers: the content of each split, the reasons of rejections, and its snapshots."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from infra.storage.base import Store
from pipelines.datasets.manifest import SPLITS
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import InvalidIndexError, read_index
from pipelines.features.layout import kind_of
from pipelines.features.manifests import read_manifest


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one split."""

    split: str
    written: int
    rejected: int
    captions: int
    """Captions of the written photos."""
    shards: int
    size: int
    """Bytes of the tars."""


@dataclass(frozen=True)
class Snapshot:
    """One index that the feature set has or had."""

    digest: str
    """The 12 hex digits with which `<uri>@<digest>` opens it."""
    photos: int
    shards: int
    current: bool


def summarise(features: FeatureSet) -> list[SplitSummary]:
    """Returns the counts of every split that has a shard. Raises UserError if the manifest cannot be read."""
    table = read_manifest(features.store, features.index.manifest).table
    is_rejected = pc.is_in(table["key"], pa.array([row.key for row in features.rejected], pa.string()))
    counts = pa.table({"split": table["split"], "captions": pc.list_value_length(table["captions"])})
    sums = counts.filter(pc.invert(is_rejected)).group_by("split", use_threads=False).aggregate([("captions", "sum")])
    captions = Counter(dict(zip(sums["split"].to_pylist(), sums["captions_sum"].to_pylist(), strict=True)))
    rows = []
    for split in SPLITS:
        shards = [shard for shard in features.index.shards if shard.split == split]
        if shards:
            written, refused = sum(shard.written for shard in shards), sum(shard.rejected for shard in shards)
            size = sum(shard.size for shard in shards)
            rows.append(SplitSummary(split, written, refused, captions[split], len(shards), size))
    return rows


def snapshots(store: Store) -> list[Snapshot]:
    """Returns every valid snapshot of the store, the current one first, then by digest."""
    current = None
    with suppress(FileNotFoundError, InvalidIndexError):
        current = read_index(store).feature_set
    found = []
    for name in store.objects():
        if kind_of(name) == "snapshot":
            with suppress(InvalidIndexError):
                index = read_index(store, name)
                is_current = index.feature_set == current
                found.append(Snapshot(index.feature_set[:12], index.photos_written, len(index.shards), is_current))
    return sorted(found, key=lambda snapshot: (not snapshot.current, snapshot.digest))


def rejection_reasons(features: FeatureSet) -> list[tuple[str, int]]:
    """Returns the reasons of rejections with their counts, the most frequent first."""
    return Counter(row.reason for row in features.rejected).most_common()


def megabytes(size: int) -> str:
    """Returns a number of bytes as text with three digits and a unit: `7.3 MB`."""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}" if unit != "B" else f"{size} B"
