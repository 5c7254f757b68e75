"""Export to bottom-up-attention TSV: an import of an export has the same photos, with any number of regions each."""

from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.features import shard_reader
from pipelines.features.feature_set import FeatureSet
from pipelines.features.precomputed.export_tsv import export_tsv
from pipelines.features.precomputed.scan import import_scan
from pipelines.features.precomputed.tsv import import_tsv
from tests.support.precomputed import Photo, karpathy_file, scan_folder

PHOTOS = [Photo("1", 10), Photo("2", 100), Photo("3", 36)]


def read(source: Path, output: Path) -> FeatureSet:
    dataset = karpathy_file(output.with_suffix(".json"), {"1.jpg": "train", "2.jpg": "train", "3.jpg": "val"})
    return import_tsv(source, dataset, str(output), 2, lambda _: None).feature_set


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    (tmp_path / "a.tsv").write_text("".join(photo.six() for photo in PHOTOS))
    return read(tmp_path / "a.tsv", tmp_path / "first")


def test_an_import_of_an_export_has_the_same_photos(features: FeatureSet, tmp_path: Path):
    done: list[int] = []
    exported = export_tsv(features, tmp_path / "back", done.append)
    assert (exported.photos, sum(done)) == ({"train": 2, "val": 1}, 3)
    assert {path.name for path in (tmp_path / "back").iterdir()} == {"train.tsv", "val.tsv"}
    again = read(tmp_path / "back", tmp_path / "again")
    for name in ("train", "val"):
        one, two = features.split(name), again.split(name)
        assert (one.keys, one.captions) == (two.keys, two.captions)
        for row in range(len(one)):
            np.testing.assert_array_equal(one[row : row + 1][0], two[row : row + 1][0])
            np.testing.assert_array_equal(one.boxes(row), two.boxes(row))
    assert [len(regions_RF) for regions_RF in again.split("train")[:]] == [10, 100]


def test_the_rows_are_those_of_the_original_code(features: FeatureSet, tmp_path: Path):
    export_tsv(features, tmp_path / "back", lambda _: None)
    assert (tmp_path / "back" / "train.tsv").read_text() == "".join(photo.six() for photo in PHOTOS[:2])


def test_each_shard_is_read_once(features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    whole = shard_reader.read_shard
    monkeypatch.setattr(shard_reader, "read_shard", lambda store, tar, sha: read.append(tar) or whole(store, tar, sha))
    export_tsv(features, tmp_path / "back", lambda _: None)
    assert len(read) == len(set(read)) == 2


def test_features_without_boxes_are_refused(tmp_path: Path):
    scan = import_scan(scan_folder(tmp_path / "in", {"train": 2}), str(tmp_path / "out"), "d", 7, lambda _: None)
    with pytest.raises(UserError, match="its photos have no boxes, which a TSV needs"):
        export_tsv(scan.feature_set, tmp_path / "back", lambda _: None)
    assert not (tmp_path / "back").exists()
