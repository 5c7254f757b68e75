"""A feature set in numbers: what each split holds, why photos were rejected, and every index that it has had."""

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.datasets.manifest import SPLITS, Manifest
from pipelines.features.feature_set import INDEX, FeatureSet, manifest_name, read_index

_KEPT = re.compile(r"snapshot-[0-9a-f]{12}\.json")


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one split."""

    split: str
    written: int
    rejected: int
    captions: int
    """Of the photos written."""
    shards: int
    size: int
    """Bytes of the tars."""


@dataclass(frozen=True)
class Snapshot:
    """One index that the feature set has or had."""

    digest: str
    """The 12 hex digits by which `<uri>@<digest>` opens it."""
    photos: int
    shards: int
    newest: bool


def summarise(features: FeatureSet) -> list[SplitSummary]:
    """Counts of every split that has a shard. UserError if the manifest is not there."""
    rejected = {row.key for row in features.rejected}
    captions: Counter[str] = Counter()
    for photo in _manifest(features).photos():
        captions[photo.split] += 0 if photo.key in rejected else len(photo.captions)
    rows = []
    for split in SPLITS:
        receipts = [receipt for receipt in features.receipts if receipt.split == split]
        if receipts:
            written, refused = sum(len(r.written) for r in receipts), sum(len(r.rejected) for r in receipts)
            size = sum(r.size for r in receipts)
            rows.append(SplitSummary(split, written, refused, captions[split], len(receipts), size))
    return rows


def snapshots(store: Store) -> list[Snapshot]:
    """Every readable index of the store, the newest first, then by digest."""
    indexes: dict[str, dict[str, Any]] = {}
    for name in store.objects():
        if name == INDEX or _KEPT.fullmatch(name):
            with suppress(ValueError):
                indexes[name] = read_index(store, name)
    newest = indexes.pop(INDEX, {}).get("feature_set")
    found = [
        Snapshot(
            index["feature_set"][:12],
            sum(row["count"] for row in index["shards"]),
            len(index["shards"]),
            index["feature_set"] == newest,
        )
        for index in indexes.values()
    ]
    return sorted(found, key=lambda index: (not index.newest, index.digest))


def reasons(features: FeatureSet) -> list[tuple[str, int]]:
    """Why photos were rejected and how often, the most frequent first."""
    return Counter(row.reason for row in features.rejected).most_common()


def megabytes(size: int) -> str:
    """Bytes for people: `7.3 MB`."""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}" if unit != "B" else f"{size} B"


def _manifest(features: FeatureSet) -> Manifest:
    name = manifest_name(features.index["manifest"])
    try:
        return Manifest.from_parquet(features.store.read(name), f"{features.uri}/{name}")
    except FileNotFoundError as error:
        raise UserError(f"{features.uri}/{name}: is not there; `python -m jobs.extract` writes it anew") from error
