"""The feature set that a version was trained on, found by the tags of its run."""

import shutil
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.features.mlflow_lineage import run_tags
from pipelines.models.trained_on import trained_on
from tests.support.feature_sets import manifest, write_set


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path, manifest(tmp_path))


def version(tracking: Tracking, run_id: str | None, fingerprint: str = "made-up-0123") -> int:
    """Registers a version without files, as far as its lineage needs it."""
    client = tracking.client()
    client.create_registered_model("m")
    return int(client.create_model_version("m", "file:///x", run_id, {"fingerprint": fingerprint}).version)


def test_the_feature_set_is_opened_in_its_latest_state(tracking: Tracking, features: FeatureSet, tmp_path: Path):
    number = version(tracking, tracking.create_run("m", run_tags(features)))
    assert trained_on(tracking, "m", number).index == features.index
    extended = write_set(tmp_path, manifest(tmp_path, 12))
    assert trained_on(tracking, "m", number).index == extended.index


def test_a_version_without_such_a_run_is_an_error(tracking: Tracking):
    runs = [None, "0" * 32, tracking.create_run("another", {})]
    client = tracking.client()
    client.create_registered_model("m")
    for run_id in runs:
        number = int(client.create_model_version("m", "file:///x", run_id).version)
        with pytest.raises(UserError, match=f"^models:/m/{number} has no run that names its feature set$"):
            trained_on(tracking, "m", number)


def test_a_feature_set_that_is_unreachable_is_an_error(tracking: Tracking, features: FeatureSet):
    number = version(tracking, tracking.create_run("m", run_tags(features)))
    shutil.rmtree(features.uri)
    with pytest.raises(UserError, match=rf"^models:/m/1 was trained on {features.uri}, which cannot be opened from"):
        trained_on(tracking, "m", number)


def test_features_of_another_detector_by_now_are_an_error(tracking: Tracking, features: FeatureSet):
    number = version(tracking, tracking.create_run("m", run_tags(features)), "made-up-old")
    with pytest.raises(UserError, match=r"was made for features of made-up-old, but .* has features of made-up-0123"):
        trained_on(tracking, "m", number)
