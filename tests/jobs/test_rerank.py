"""The command `jobs.rerank` on a registered model, and what it refuses."""

from pathlib import Path

import pytest

from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from tests.jobs.conftest import Call
from tests.support.feature_sets import manifest, write_set
from tests.support.small_models import evaluated_splits, model, register_model, small_set, write_checkpoint


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return small_set(tmp_path / "features", 30)


def test_recall_and_time_are_printed_and_the_split_is_logged(
    call: Call, features: FeatureSet, tracking: Tracking, tmp_path: Path
):
    register_model(tracking, "m", model(features), features, tmp_path / "model")
    options = [f"--features={features.uri}", "--split=val", f"--tracking.uri={tracking.uri}"]
    code, out, _ = call("jobs.rerank", "--model=models:/m/1", *options)
    assert code == 0
    header, _, *rows = [line for line in out.splitlines() if line.startswith("|")]
    assert "recall" in header
    assert len(rows) > 1
    assert evaluated_splits(tracking, "m") == ["tiny val"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "model"),
        (["--model={model}", "--features=nowhere"], "nowhere: no finished feature set here"),
        (["--model=nowhere", "--features={features}"], "nowhere: not a checkpoint folder of a model"),
        (["--model={model}", "--features={features}", "--split=gallery"], "split 'gallery' has no photo"),
        (["--model={model}", "--features={other}"], "was made for features of made-up-0123 but"),
        (["--model={model}", "--features={features}", "--device=tpu"], "device"),
    ],
)
def test_bad_input_is_one_line(call: Call, features: FeatureSet, tmp_path: Path, arguments: list[str], said: str):
    other = write_set(tmp_path / "b", manifest(tmp_path, 12), fingerprint="made-up-9999")
    places = {"model": write_checkpoint(tmp_path / "model", model(features), features)}
    places |= {"features": features.uri, "other": other.uri}
    code, out, err = call("jobs.rerank", *(argument.format(**places) for argument in arguments))
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert said in line
