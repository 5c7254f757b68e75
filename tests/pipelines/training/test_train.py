"""Results of finished trainings. `tests/e2e` and `tests/faults` run complete ones."""

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import infra.cluster
from infra.errors import StorageError, UserError
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.features.feature_set import FeatureSet
from pipelines.training import train
from pipelines.training.claim import claim_training
from pipelines.training.config import TrainConfig
from pipelines.training.inputs import resolve_inputs
from pipelines.training.run_directory import open_run_directory
from pipelines.training.setup import TrainingSetup
from pipelines.training.train import TrainedModel, _results, run_training, training_summary
from shan_model.config import ModelConfig
from tests.support import feature_sets
from tests.support.faulty_proxy import CUT_BEFORE, faulty_proxy

RESULT = TrainedModel("r", "m", 3, 2, {"val_rsum": 123.456})


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12))


def test_summary_is_one_line():
    assert training_summary(RESULT) == "m version 3 (run r): best epoch 2, validation rSum 123.5"


def test_the_card_of_a_version_has_intervals_and_a_baseline(features: FeatureSet):
    random = {"image_to_text_r1": 50, "image_to_text_r5": 100, "image_to_text_r10": 100}
    random |= {"text_to_image_r1": 50, "text_to_image_r5": 100, "text_to_image_r10": 100, "rsum": 500}
    validated, intervals = {f"val_{name}": 0.04 for name in random}, dict.fromkeys(random, (0.0, 25.0))
    _, table = _results(features.split("val"), 4, validated, intervals)
    lines = table.splitlines()
    assert lines[0] == "**val: 2 photos, 4 captions**"
    assert lines[2].split(" | ")[1:3] == ["image-to-text R@1", "image-to-text R@5"]
    assert lines[4] == "| epoch 4 |" + " 0.0 (0.0 to 25.0) |" * 7
    assert lines[5] == "| random baseline |" + "".join(f" {value:.1f} |" for value in random.values())


@pytest.fixture
def setup(tmp_path: Path) -> TrainingSetup:
    model = ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8, word_dim=4)
    return TrainingSetup(model=model, train=TrainConfig(batch_size=4, output=str(tmp_path / "runs")))


def unreachable(*_: object) -> None:
    raise UserError("cluster.address auto is unreachable")


@pytest.mark.parametrize(
    "edit", [{"extra": 1}, {"version": "3"}, {"best_epoch": -1}, {"metrics": []}, {"metrics": {}}, {"run_id": None}]
)
def test_an_edited_result_is_an_error_in_one_line(tmp_path: Path, edit: dict[str, object]):
    directory = open_run_directory(str(tmp_path), "m-0123456789ab")
    directory.record_result(asdict(RESULT))
    assert directory.result(TrainedModel.parse) == RESULT
    directory.record_result(asdict(RESULT) | edit)
    with pytest.raises(UserError, match=r"m-0123456789ab/finished\.json is corrupt; delete the run directory"):
        directory.result(TrainedModel.parse)


@pytest.mark.parametrize("resume", [True, None])
def test_a_finished_training_returns_its_stored_result(
    features: FeatureSet,
    setup: TrainingSetup,
    tracking: Tracking,
    resume: bool | None,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(infra.cluster, "connect", unreachable)
    name = f"m-{resume}"  # the tests of this module share the tracking store
    training = claim_training(resolve_inputs(features, name, setup), tracking, resume=False)
    directory, trained = training.inputs.directory, replace(RESULT, name=name, run_id=training.run_id, version=1)
    directory.record_result(asdict(trained))
    with pytest.raises(UserError, match=r"has finished, but models:/m-.*/1: .*; or delete that folder$"):
        run_training(features, name, setup, tracking, resume)
    tracking.client().create_registered_model(name)
    tracking.client().create_model_version(name, "file:///x", trained.run_id)
    assert run_training(features, name, setup, tracking, resume) == trained
    assert "lease-000002.json" not in directory.store.objects()
    monkeypatch.setattr(infra.cluster, "connect", lambda *_: None)
    with pytest.raises(UserError, match="a run with this configuration has finished"):
        run_training(features, name, setup, tracking, resume=False)


@pytest.mark.parametrize("resume", [False, None])
def test_unreachable_cluster_leaves_neither_directory_nor_run(
    features: FeatureSet,
    setup: TrainingSetup,
    tracking: Tracking,
    resume: bool | None,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(infra.cluster, "connect", unreachable)
    with pytest.raises(UserError, match=r"cluster\.address auto is unreachable"):
        run_training(features, "m", setup, tracking, resume)
    assert not Path(setup.train.output).exists()
    assert tracking.client().search_runs([tracking.experiment_id]) == []


@pytest.mark.parametrize(
    ("resume", "advice"),
    [
        (False, "re-run the same command, with --resume if the run exists"),
        (None, "re-run the same command to continue"),
    ],
)
def test_an_outage_before_the_first_step_states_what_to_run(
    features: FeatureSet,
    setup: TrainingSetup,
    mlflow_uri: str,
    resume: bool | None,
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with faulty_proxy(mlflow_uri) as proxy:
        tracking = connect(TrackingConfig(uri=proxy.endpoint))
        monkeypatch.setattr(train, "connect_cluster", lambda _: proxy.always(CUT_BEFORE))
        with pytest.raises(StorageError, match=rf"is unreachable .*; {re.escape(advice)}$"):
            run_training(features, "m", setup, tracking, resume)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({"use_gpu": True}, "with train.use_gpu, which needs 2 x (1 CPU, 1 GPU)"),
        ({"cpus_per_worker": 5}, "2 x (5 CPU)"),
    ],
)
def test_missing_resources_leave_neither_directory_nor_run(
    features: FeatureSet, setup: TrainingSetup, tracking: Tracking, fields: dict[str, Any], needed: str
):
    setup = replace(setup, train=replace(setup.train, **fields))
    with pytest.raises(UserError, match=re.escape(needed)):
        run_training(features, "m", setup, tracking)
    assert not Path(setup.train.output).exists()
    assert tracking.client().search_runs([tracking.experiment_id]) == []
