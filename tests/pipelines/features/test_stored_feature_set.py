"""A feature set that version 0.2 wrote stays readable, and features that are not finite are refused."""

import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from infra.errors import UserError
from pipelines.features.feature_set import FeatureSet
from pipelines.features.verify import verify
from tests.support import feature_sets
from tests.support.stored_feature_set import CORRUPT, DETECTOR, FIXTURE, PHOTOS, pixels, write_feature_set

SPLITS = ("train", "val", "test")


def test_it_is_intact():
    found = verify(str(FIXTURE), lambda done, total: None)
    assert (found.errors, found.shards, found.photos, found.rejected) == ((), 4, 4, 1)


def test_regions_boxes_and_captions_are_read():
    features = FeatureSet.open(str(FIXTURE))
    written = [photo for photo in PHOTOS if photo.key != CORRUPT]
    for name in SPLITS:
        split, photos = features.split(name), [photo for photo in written if photo.split == name]
        assert split.keys == [photo.key for photo in photos]
        assert split.captions_of_photos == [photo.captions for photo in photos]
        for row, photo in enumerate(photos):
            (expected,) = DETECTOR([pixels(photo)])
            np.testing.assert_array_equal(split[[row]][0], expected.features.astype(np.float16))
            np.testing.assert_array_equal(split.boxes(row), expected.boxes)
            assert (split.meta[row]["width"], split.meta[row]["height"]) == (20, 12)
            assert split.meta[row]["classes"] == expected.classes.tolist()


def test_the_manifest_is_read_once_for_all_splits(tmp_path: Path):
    features = FeatureSet.open(str(shutil.copytree(FIXTURE, tmp_path / "set")))
    first = features.split("train")
    assert first.captions
    for manifest in (tmp_path / "set").glob("manifest-*"):
        manifest.unlink()
    assert features.split("val").captions
    assert first.on_node(first.shards).captions == first.captions


def test_format_has_not_changed_without_a_new_version(tmp_path: Path):
    """If this fails, raise the format version of feature sets."""
    write_feature_set(tmp_path / "set")
    for stored in FIXTURE.iterdir():
        written = tmp_path / "set" / stored.name
        if stored.suffix == ".parquet":  # which states its writer; that of the manifest is version 1, now 2
            assert pq.read_table(written).equals(pq.read_table(stored)), stored.name
        else:
            assert written.read_bytes() == stored.read_bytes(), stored.name


def test_lineage_and_rejections_are_read():
    features = FeatureSet.open(str(FIXTURE))
    assert features.dataset == "tiny"
    assert features.index.fingerprint == DETECTOR.fingerprint()
    assert FeatureSet.open(features.pinned_uri).index == features.index
    (rejected,) = features.rejected
    assert (rejected.source, rejected.reason) == (f"{CORRUPT}.png", "not an image of a known format")
    (row,) = pq.read_table(FIXTURE / "quarantine.parquet").to_pylist()
    assert (row["key"], row["split"], row["reason"]) == (CORRUPT, "train", rejected.reason)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(tmp_path: Path, bad: float):
    photos = feature_sets.manifest(tmp_path, 12)
    regions_RF = feature_sets.sample(next(photos.photos("val"))).regions_RF.copy()
    regions_RF[2, 5] = bad
    split = feature_sets.write_set(tmp_path, photos, {"p4": {"regions_RF": regions_RF}}).split("val")
    assert split.keys == ["p4", "p10"]
    split[1:]
    tar = re.escape(str(feature_sets.tar_of(FeatureSet.open(split.store.uri), "p4")))
    with pytest.raises(UserError, match=rf"^{tar}: p4\.regions\.npy contains NaN or infinity; extract again$"):
        split[:]
