"""What `jobs.search` opens: an index or a split of a feature set, each with its model."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infra.errors import UserError
from infra.tracking import Tracking, TrackingConfig
from pipelines.detectors import registry
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import DetectorDescription
from pipelines.models.load import LoadedModel
from pipelines.search import query
from pipelines.search.index_build import IndexBuild
from pipelines.search.query import detect_regions, open_features, open_index
from tests.support.feature_sets import manifest, write_set
from tests.support.indexes import loaded, network
from tests.support.registered import write_plugin
from tests.support.small_models import register_model

NO_STORE = TrackingConfig(uri="sqlite:////nowhere/mlflow.db")


def test_an_index_and_its_feature_set_find_the_same(
    built: IndexBuild, indexed_model: LoadedModel, indexed_features: FeatureSet
):
    index = open_index(built.uri, None, NO_STORE, "cpu", candidates=1000, split="val")
    features = open_features(indexed_features.uri, indexed_model.uri, NO_STORE, "cpu", "val")
    (of_index,), (of_features,) = (opened.search_photos(["a photo of 10"], 5) for opened in (index, features))
    assert [hit.key for hit in of_index] == [hit.key for hit in of_features]
    assert {hit.split for hit in of_index} == {"val"}
    ((explained,),), ((expected,),) = (
        opened.explain(["a photo"], [hits[:1]]) for opened, hits in ((index, of_index), (features, of_features))
    )
    assert explained.levels == pytest.approx(expected.levels, abs=1e-3)


def test_the_model_of_an_index_may_be_named(built: IndexBuild, indexed_model: LoadedModel, indexed_features, tmp_path):
    assert open_index(built.uri, indexed_model.uri, NO_STORE, "cpu", 10, None).model.digest == indexed_model.digest
    other = loaded(tmp_path / "other", indexed_features, seed=1)
    with pytest.raises(UserError, match=f"was encoded by {indexed_model.uri} "):
        open_index(built.uri, other.uri, NO_STORE, "cpu", 10, None)


def test_a_split_without_items_is_refused_with_the_choices(built: IndexBuild):
    with pytest.raises(UserError, match=r"has no items of split 'gallery'; choose one of: test, train, val$"):
        open_index(built.uri, None, NO_STORE, "cpu", 10, "gallery")


def test_features_of_another_detector_are_refused(indexed_model: LoadedModel, tmp_path: Path):
    other = write_set(tmp_path, manifest(tmp_path, 12), fingerprint="made-up-9999")
    with pytest.raises(UserError, match="was made for features of made-up-0123 but"):
        open_features(other.uri, indexed_model.uri, NO_STORE, "cpu", "val")


def test_a_large_split_brings_a_hint(
    indexed_model: LoadedModel,
    indexed_features: FeatureSet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    open_features(indexed_features.uri, indexed_model.uri, NO_STORE, "cpu", "val")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(query, "LARGE", 4)
    open_features(indexed_features.uri, indexed_model.uri, NO_STORE, "cpu", "val")
    assert "all 10 photos are read and encoded for this search; `python -m jobs.index` builds an index" in (
        capsys.readouterr().err
    )


@pytest.fixture
def stripes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DetectorDescription]:
    """A detector plugin of three stripes, whose features are the mean colour times 2."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield write_plugin(tmp_path)
    for name in [name for name in sys.modules if name.startswith("striped_detector")]:
        del sys.modules[name]


def test_regions_are_those_of_the_models_detector(tracking: Tracking, stripes: DetectorDescription, tmp_path: Path):
    fingerprint = registry.fingerprint(stripes.name, registry.resolve(stripes.name, stripes.settings))
    features = write_set(tmp_path, manifest(tmp_path, 12), detector=stripes, fingerprint=fingerprint)
    register_model(tracking, "m", network(features), features, tmp_path / "bundle")
    Image.new("RGB", (30, 20), (200, 10, 30)).save(tmp_path / "red.png")
    Image.new("RGB", (13, 13)).save(tmp_path / "fails.png")
    (tmp_path / "text.png").write_text("not an image")
    (regions_RF,) = detect_regions(tracking, "models:/m/1", [str(tmp_path / "red.png")], "cpu")
    np.testing.assert_allclose(regions_RF[:, :4], [[400, 20, 60, stripe] for stripe in range(3)], rtol=1e-3)
    for name, message in (("text", r"not an image .*; give an image file"), ("fails", r"fails.*; give another image")):
        with pytest.raises(UserError, match=f"^--image.*{message}"):
            detect_regions(tracking, "models:/m/1", [str(tmp_path / f"{name}.png")], "cpu")


def test_a_checkpoint_has_no_detector(indexed_model: LoadedModel):
    with pytest.raises(UserError, match="is a checkpoint folder, which has no detector; give a models:/ or runs:/ URI"):
        detect_regions(None, indexed_model.uri, ["x.png"], "cpu")
