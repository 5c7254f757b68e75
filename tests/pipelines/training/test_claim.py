"""Preparation of a training: validation, claim of the run directory, one MLflow run per configuration."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.errors import LeaseLostError, StorageError, UserError
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.features.feature_set import FeatureSet
from pipelines.training import claim, run_directory
from pipelines.training.claim import (
    ClaimedTraining,
    TrainingInputs,
    claim_training,
    require_dataset_of_model,
    resolve_inputs,
)
from pipelines.training.config import TrainConfig
from pipelines.training.setup import TrainingSetup
from shan_model.config import ModelConfig
from tests.support import feature_sets
from tests.support.faulty_proxy import CUT_BEFORE, faulty_proxy
from tests.support.tiny_bert import write_tiny_bert


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12))


@pytest.fixture
def setup(tmp_path: Path) -> TrainingSetup:
    return TrainingSetup(
        model=ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8, word_dim=4),
        train=TrainConfig(batch_size=4, output=str(tmp_path / "runs")),
        tracking=TrackingConfig(uri="http://user:secret@host:5000"),
    )


@pytest.fixture
def inputs(features: FeatureSet, setup: TrainingSetup) -> TrainingInputs:
    return resolve_inputs(features, "m", setup)


def test_a_tracking_server_that_is_away_is_one_line(
    inputs: TrainingInputs, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with faulty_proxy(mlflow_uri) as proxy:
        tracking = connect(TrackingConfig(uri=proxy.endpoint))
        proxy.always(CUT_BEFORE)
        with pytest.raises(StorageError, match=f"^tracking.uri {proxy.endpoint} is unreachable"):
            claim_training(inputs, tracking, resume=None)


def test_a_resumed_training_logs_missing_datasets(
    inputs: TrainingInputs, mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with faulty_proxy(mlflow_uri) as proxy:
        tracking = connect(TrackingConfig(uri=proxy.endpoint, experiment=str(tmp_path)))
        proxy.next(CUT_BEFORE, path="/mlflow/runs/log-inputs")
        with pytest.raises(StorageError, match=f"^tracking.uri {proxy.endpoint} is unreachable"):
            claim_training(inputs, tracking, resume=None)
        (run,) = runs(tracking)
        assert (run.info.status, run.inputs.dataset_inputs) == ("FAILED", [])
        claim_training(inputs, tracking, resume=None)
        assert datasets(tracking) == DATASETS_OF_A_TRAINING


def runs(tracking: Tracking) -> list[Any]:
    return list(tracking.client().search_runs([tracking.experiment_id]))


DATASETS_OF_A_TRAINING = [("tiny train", "training"), ("tiny val", "validation")]


def datasets(tracking: Tracking) -> list[tuple[str, str]]:
    """Returns name and context of the dataset inputs of the only run."""
    (run,) = runs(tracking)
    return sorted((each.dataset.name, each.tags[0].value) for each in run.inputs.dataset_inputs)


def test_inputs_are_resolved_without_writing(inputs: TrainingInputs):
    assert not inputs.directory.is_claimed()
    assert not Path(inputs.directory.root).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "--name 'a/b' is not a valid model name"),
        ({"model": ModelConfig(region_dim=9)}, "has features of width 8, but model.region_dim is 9"),
        ({"train": TrainConfig(batch_size=400)}, "train.batch_size is 400"),
        ({"train": TrainConfig(batch_size=4, word_vectors="none.txt")}, "train.word_vectors"),
    ],
)
def test_invalid_input_is_an_error_before_anything_is_written(
    features: FeatureSet, setup: TrainingSetup, change: dict[str, Any], message: str
):
    name = change.pop("name", "m")
    change = {"train": replace(change["train"], output=setup.train.output)} if "train" in change else change
    with pytest.raises(UserError, match=message):
        resolve_inputs(features, name, replace(setup, **change))
    assert not Path(setup.train.output).exists()


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def with_config(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "config.json").write_text(text)


@pytest.mark.parametrize(
    ("corrupt", "reason"),
    [
        (shutil.rmtree, r"cannot be loaded \(.*\); give a folder or hub name"),
        (without("config.json"), r"cannot be loaded \(.*\); give a folder or hub name"),
        (without("model.safetensors"), r"cannot be loaded \(it has no model\.safetensors\); give a folder or hub name"),
        (without("tokenizer.json"), "has a tokenizer without words; save tokenizer.json with the model"),
        (with_config('{"model_type": "own"}'), r"cannot be loaded \(.*own.*\); give a folder or hub name"),
        (
            with_config('{"model_type": "bert", "hidden_size": "x"}'),
            r"cannot be loaded \(.*hidden_size.*\); give a folder",
        ),
        (with_config('{"model_type": "t5"}'), "is a t5, not a text encoder; use one such as BERT or RoBERTa"),
    ],
    ids=["missing", "no config", "no weights", "no tokenizer", "unknown kind", "wrong type", "not an encoder"],
)
def test_an_unusable_text_encoder_is_an_error_first(
    features: FeatureSet, setup: TrainingSetup, tmp_path: Path, corrupt: Callable[[Path], object], reason: str
):
    folder = write_tiny_bert(tmp_path / "bert")
    corrupt(folder)
    model = replace(setup.model, text_encoder="hf", hf_model=str(folder))
    with pytest.raises(UserError, match=f"^model.hf_model '{folder}' {reason}") as caught:
        resolve_inputs(features, "m", replace(setup, model=model))
    assert "\n" not in str(caught.value)
    assert not Path(setup.train.output).exists()


def test_a_local_text_encoder_is_accepted(features: FeatureSet, setup: TrainingSetup, tmp_path: Path):
    model = replace(setup.model, text_encoder="hf", hf_model=str(write_tiny_bert(tmp_path / "bert")))
    assert resolve_inputs(features, "m", replace(setup, model=model)).setup.model == model


@pytest.mark.parametrize("name", ["m", "shan-写真", "M_1.2"])
def test_names_of_models_have_characters_of_any_script(features: FeatureSet, setup: TrainingSetup, name: str):
    assert resolve_inputs(features, name, setup).directory.name.startswith(f"{name}-")


def test_a_registered_model_of_another_data_set_is_refused(tracking: Tracking):
    client = tracking.client()
    require_dataset_of_model(tracking, "m", "tiny")
    client.create_registered_model("m")
    require_dataset_of_model(tracking, "m", "tiny")
    client.create_model_version("m", "file:///x", tags={"dataset": "tiny"})
    require_dataset_of_model(tracking, "m", "tiny")
    with pytest.raises(
        UserError, match="the registered model 'm' belongs to another data set, tiny; give the model of"
    ):
        require_dataset_of_model(tracking, "m", "tiny-2")


def test_options_without_effect_are_warned_of(
    features: FeatureSet, setup: TrainingSetup, capsys: pytest.CaptureFixture[str]
):
    resolve_inputs(features, "m", setup)
    assert capsys.readouterr().err == ""
    train = replace(setup.train, lr_schedule="cosine", lr_decay_epoch=3)
    resolve_inputs(features, "m", replace(setup, train=train))
    assert capsys.readouterr().err == (
        "warning: train.lr_decay_epoch is 3, but has no effect with train.lr_schedule=cosine\n"
    )


def test_run_logs_exactly_the_sections_of_a_training(inputs: TrainingInputs, tracking: Tracking):
    training = claim_training(inputs, tracking, resume=False, parent="parent")
    (run,) = runs(tracking)
    assert run.info.run_id == training.run_id == inputs.directory.run_id()
    assert run.data.params == {
        name: "http://host:5000" if name == "tracking.uri" else str(value)
        for name, value in inputs.setup.flat().items()
    }
    assert {name.split(".")[0] for name in run.data.params} == {
        "model",
        "train",
        "cache",
        "tracking",
        "register",
        "cluster",
    }
    assert run.data.tags["feature_set_uri"] == inputs.features.uri
    assert run.data.tags["run_directory"] == inputs.directory.uri
    assert run.data.tags["mlflow.parentRunId"] == "parent"
    assert {f"lineage.{name}" for name in inputs.features.lineage} <= run.data.tags.keys()
    assert datasets(tracking) == DATASETS_OF_A_TRAINING
    assert {each.path for each in tracking.client().list_artifacts(training.run_id)} == {
        "config.yaml", "environment.json",
    }  # fmt: skip
    assert training.lineage == inputs.features.lineage | {"run": training.run_id, "dataset": "tiny"}


def test_existing_run_needs_resume_and_resume_needs_a_run(inputs: TrainingInputs, tracking: Tracking):
    with pytest.raises(UserError, match="there is no run to resume with exactly these features and settings"):
        claim_training(inputs, tracking, resume=True)
    assert runs(tracking) == []
    first = claim_training(inputs, tracking, resume=False)
    with pytest.raises(UserError, match=f"a run with this configuration exists .run {first.run_id}."):
        claim_training(inputs, tracking, resume=False)
    first.lease.require()
    resumed = claim_training(inputs, tracking, resume=True)
    assert (resumed.run_id, resumed.lease.token, len(runs(tracking))) == (first.run_id, 2, 1)
    artifacts = {each.path for each in tracking.client().list_artifacts(first.run_id)}
    assert {"config.yaml", "config-lease-000002.yaml", "environment-lease-000002.json"} <= artifacts
    assert datasets(tracking) == DATASETS_OF_A_TRAINING
    with pytest.raises(LeaseLostError):
        first.lease.require()
    assert claim_training(inputs, tracking, resume=None).run_id == first.run_id


def test_resume_keeps_the_logged_parameters(inputs: TrainingInputs, setup: TrainingSetup, tracking: Tracking):
    claim_training(inputs, tracking, resume=False)
    again = resolve_inputs(inputs.features, "m", replace(setup, train=replace(setup.train, num_workers=1)))
    claim_training(again, tracking, resume=True)
    (run,) = runs(tracking)
    assert run.data.params["train.num_workers"] == "2"


@pytest.mark.parametrize("resume", [True, False, None])
def test_process_killed_between_claim_and_run_is_resumed(
    inputs: TrainingInputs, tracking: Tracking, resume: bool | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run_directory, "CLAIM_S", 0.2)
    killed = inputs.directory.claim()
    training = claim_training(inputs, tracking, resume)
    assert (training.lease.token, training.run_id) == (2, inputs.directory.run_id())
    assert len(runs(tracking)) == 1
    with pytest.raises(LeaseLostError):
        killed.require()


def test_process_that_could_not_log_its_settings_is_resumed(
    inputs: TrainingInputs, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as context:
        context.setattr(claim, "environment", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            claim_training(inputs, tracking, resume=False)
    (run,) = runs(tracking)
    assert run.info.status == "FAILED"
    claim_training(inputs, tracking, resume=True)
    (run,) = runs(tracking)
    assert len(run.data.params) == len(inputs.setup.flat())
    assert datasets(tracking) == DATASETS_OF_A_TRAINING


def test_concurrent_starts_claim_the_run_once(inputs: TrainingInputs, tracking: Tracking):
    def start(_: int) -> ClaimedTraining | str:
        try:
            return claim_training(inputs, tracking, resume=False)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(start, range(2)))
    (training,) = (result for result in results if isinstance(result, ClaimedTraining))
    (message,) = (result for result in results if isinstance(result, str))
    assert f"a run with this configuration exists (run {training.run_id})" in message
    assert [run.info.run_id for run in runs(tracking)] == [training.run_id]
    training.lease.require()


def test_resume_with_another_tracking_store_takes_no_lease(inputs: TrainingInputs, tracking: Tracking, tmp_path: Path):
    first = claim_training(inputs, tracking, resume=False)
    other = connect(TrackingConfig(uri=f"sqlite:///{tmp_path}/other.db"))
    with pytest.raises(UserError, match=f"has no run {first.run_id}"):
        claim_training(inputs, other, resume=True)
    first.lease.require()
