"""The index: typed fields, canonical bytes, and one clear error for everything that is not an index."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.errors import UserError
from infra.storage.folder import FolderStore
from infra.storage.s3 import S3Store
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import FeatureSetIndex, InvalidIndexError, index_digest, read_index
from tests.support.feature_sets import manifest, write_set
from tests.support.servers import aws_environment


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder = tmp_path_factory.mktemp("set")
    return write_set(folder, manifest(folder))


def test_an_index_comes_back_from_its_bytes(features: FeatureSet):
    data = features.index.to_json()
    index = FeatureSetIndex.from_json(data)
    assert index == features.index
    assert index.to_json() == data
    assert (index.photos_written, index.photos_rejected) == (5, 1)
    assert index.detector.class_names == {1: "person", 2: "dog"}
    assert index.detector.region_range == (3, 3)


def test_the_digest_covers_everything_but_locations(features: FeatureSet):
    index = features.index
    assert index.compute_digest() == index.feature_set == index_digest(json.loads(index.to_json()))
    assert replace(index, photo_root="elsewhere").compute_digest() == index.feature_set
    for change in ({"dataset": "x"}, {"manifest": "x"}, {"fingerprint": "x"}, {"shards": index.shards[1:]}):
        assert replace(index, **change).compute_digest() != index.feature_set
    for change in ({"name": "x"}, {"feature_dim": 9}, {"class_names": {1: "x"}}, {"attribute_names": {1: "x"}}):
        assert replace(index, detector=replace(index.detector, **change)).compute_digest() != index.feature_set


def test_the_digest_does_not_depend_on_where_the_weights_are(features: FeatureSet):
    index = features.index
    settings = [{"weights": f"{root}/vg.pth", "classes_file": f"{root}/classes.txt"} for root in ("/a", "s3://b")]
    here, there = (replace(index, detector=replace(index.detector, settings=each)) for each in settings)
    assert here.to_json() != there.to_json()
    assert here.compute_digest() == there.compute_digest() == index.feature_set


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.update(format="shan-features/3"), r"its format is 'shan-features/3', this release reads"),
        (lambda d: d.pop("dataset"), "field 'dataset' is missing"),
        (lambda d: d.update(more=1), "field 'more' is unknown"),
        (lambda d: d.update(manifest=1), "field 'manifest' is int, not str"),
        (lambda d: d.update(shards={}), "field 'shards' is dict, not list"),
        (lambda d: d["shards"][0].update(name="../x"), "a shard's name is malformed"),
        (lambda d: d["shards"][0].update(written=-1), "field 'shards.written' is not a count"),
        (lambda d: d["shards"][0].pop("size"), "field 'size' is missing"),
        (lambda d: d["detector"].update(feature_dim=8.0), "field 'detector.feature_dim' is not a count"),
        (lambda d: d["detector"].update(region_range=[3]), "wrong type|not enough values"),
        (lambda d: d["detector"].update(class_names={"x": "y"}), "invalid literal"),
        (lambda d: d["detector"].update(class_names={"1": 2}), "field 'class_names' has a name that is not text"),
        (lambda d: d.update(dataset="\ud800"), "surrogates not allowed"),
    ],
)
def test_an_invalid_index_is_one_error_with_the_reason(
    features: FeatureSet, tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
):
    document = json.loads(features.index.to_json())
    change(document)
    (tmp_path / "index.json").write_text(json.dumps(document))
    with pytest.raises(InvalidIndexError, match=reason) as caught:
        read_index(FolderStore(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}/index.json is not a valid feature-set index (")
    assert "\n" not in str(caught.value)


def test_another_format_version_asks_for_a_new_extraction(features: FeatureSet, tmp_path: Path):
    document = json.loads(features.index.to_json()) | {"format": "shan-features/3"}
    (tmp_path / "index.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"this release reads 'shan-features/0\.2'\); check the URI, or extract again"):
        FeatureSet.open(str(tmp_path))


def test_rejected_request_is_not_a_corrupt_index():
    with aws_environment({"AWS_EC2_METADATA_DISABLED": "true"}), pytest.raises(UserError) as caught:
        read_index(S3Store("bucket", "prefix"))
    assert not isinstance(caught.value, InvalidIndexError)
    assert "no S3 credentials" in str(caught.value)
