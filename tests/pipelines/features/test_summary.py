"""A feature set in numbers: splits, rejections and snapshots."""

import json
from pathlib import Path

import pytest

from pipelines.datasets.manifest import Manifest
from pipelines.features.feature_set import FeatureSet
from pipelines.features.summary import Snapshot, SplitSummary, megabytes, rejection_reasons, snapshots, summarise
from tests.support.feature_sets import manifest, write_set


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path, manifest(tmp_path))


def test_a_split_counts_photos_captions_shards_and_bytes(features: FeatureSet):
    """Photos p0 to p3 are in train, of which p3 is rejected; each has two captions."""
    sizes = dict.fromkeys(("train", "val", "test"), 0)
    for tar in Path(features.uri).glob("*.tar"):
        sizes[tar.name.split("-")[1]] += tar.stat().st_size
    assert summarise(features) == [
        SplitSummary("train", 3, 1, 6, 2, sizes["train"]),
        SplitSummary("val", 1, 0, 2, 1, sizes["val"]),
        SplitSummary("test", 1, 0, 2, 1, sizes["test"]),
    ]


def test_reasons_are_counted_the_most_frequent_first(tmp_path: Path, features: FeatureSet):
    assert rejection_reasons(features) == [("not an image", 1)]
    without = Manifest.build("tiny", str(tmp_path), list(manifest(tmp_path).photos())[:2])
    assert rejection_reasons(write_set(tmp_path / "none", without)) == []


def test_snapshots_start_with_the_current_one(tmp_path: Path, features: FeatureSet):
    first = features.index.feature_set[:12]
    assert snapshots(features.store) == [Snapshot(first, 5, 4, current=True)]
    second = write_set(tmp_path, manifest(tmp_path, 12)).index.feature_set[:12]
    assert snapshots(features.store) == [
        Snapshot(second, 11, 6, current=True),
        Snapshot(first, 5, 4, current=False),
    ]
    (Path(features.uri) / f"snapshot-{first}.json").write_text(json.dumps({"format": "another"}))
    (Path(features.uri) / "index.json").unlink()
    assert snapshots(features.store) == [Snapshot(second, 11, 6, current=False)]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (7_341_000, "7.34 MB"),
        (12_345_678_901, "12.3 GB"),
        (250 * 10**12, "250 TB"),
    ],
)
def test_a_size_has_three_digits_and_a_unit(size: int, text: str):
    assert megabytes(size) == text
