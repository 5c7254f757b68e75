"""The same photos in several feature sets, whose orders, photos and captions may differ."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.features.feature_set import FeatureSet
from pipelines.features.pairing import paired_splits, require_pairable
from tests.support import feature_sets

COUNT = 30


def photos() -> list[Photo]:
    return list(feature_sets.manifest(Path("/photos"), COUNT).photos())


def write(folder: Path, rows: list[Photo]) -> FeatureSet:
    return feature_sets.write_set(folder, Manifest.build("tiny", "/photos", rows), fingerprint=f"made-up-{folder.name}")


@pytest.fixture
def one(tmp_path: Path) -> FeatureSet:
    return write(tmp_path / "one", photos())


def test_equal_splits_are_left_as_they_are(one: FeatureSet, tmp_path: Path):
    other = write(tmp_path / "other", photos())
    for split in paired_splits([one, other], "val", intersect=False):
        assert split.selected is None
        assert split.keys == ["p4", "p10", "p16", "p22", "p28"]


def test_photos_in_another_order_are_paired(one: FeatureSet, tmp_path: Path):
    other = write(tmp_path / "other", photos()[::-1])
    first, second = paired_splits([one, other], "val", intersect=False)
    assert second.keys == first.keys == one.split("val").keys
    assert second.captions == first.captions
    assert second.sources == first.sources
    assert np.array_equal(second.photo_of_caption, first.photo_of_caption)
    assert np.array_equal(second[:], first[:])
    assert np.array_equal(second[[3, 1]], first[[3, 1]])
    assert np.array_equal(second.boxes(2), first.boxes(2))


def test_photos_that_differ_are_an_error_or_left_out(one: FeatureSet, tmp_path: Path):
    rows = [replace(row, captions=("another text",)) if row.key == "p16" else row for row in photos()]
    other = write(tmp_path / "other", [row for row in rows if row.key != "p4"])
    message = (
        rf"^split 'val' has 5 photos in {one.uri} and 4 photos in {other.uri}, 3 of them in all with the same "
        r"captions, first other photo p16; add --intersect to compare on those 3$"
    )
    with pytest.raises(UserError, match=message):
        paired_splits([one, other], "val", intersect=False)
    for split in paired_splits([one, other], "val", intersect=True):
        assert split.keys == ["p10", "p22", "p28"]
        assert split.captions == [caption for key in split.keys for caption in photos()[int(key[1:])].captions]
        assert np.array_equal(split[:], one.split("val")[[1, 3, 4]])


def test_feature_sets_without_a_common_photo_are_an_error(one: FeatureSet, tmp_path: Path):
    other = write(tmp_path / "other", [replace(row, captions=("x",)) for row in photos()])
    for intersect in (False, True):
        with pytest.raises(UserError, match="0 of them in all with the same captions; give feature sets of the same"):
            paired_splits([one, other], "val", intersect)


def test_planned_photos_are_compared_before_an_extraction(tmp_path: Path):
    """A photo that the feature set rejected may be rejected again."""
    rows = [replace(row, split="val") if row.key == feature_sets.BROKEN else row for row in photos()]
    planned = {row.key: row.captions for row in rows if row.split == "val"}
    require_pairable("tiny", planned, write(tmp_path / "same", rows), "val", intersect=False)
    fewer = write(tmp_path / "fewer", [row for row in rows if row.key != "p10"])
    message = (
        rf"^split 'val' has 5 photos in data set tiny and 4 photos in {fewer.uri}, 4 of them in all with the same "
        r"captions, first other photo p10; add --intersect to compare on those 4$"
    )
    with pytest.raises(UserError, match=message):
        require_pairable("tiny", planned, fewer, "val", intersect=False)
    require_pairable("tiny", planned, fewer, "val", intersect=True)
    with pytest.raises(UserError, match="give feature sets of the same data set"):
        require_pairable("tiny", {"other": ("x",)}, fewer, "val", intersect=True)
