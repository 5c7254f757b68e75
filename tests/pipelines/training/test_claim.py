"""Claim of the run directory, and one MLflow run per configuration."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.errors import LeaseLostError, StorageError, UserError
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.features.mlflow_lineage import log_datasets
from pipelines.training import claim, run_directory
from pipelines.training.claim import ClaimedTraining, check_resume, claim_training
from pipelines.training.inputs import TrainingInputs, resolve_inputs
from pipelines.training.setup import TrainingSetup
from tests.support.faulty_proxy import CUT_BEFORE, faulty_proxy


def test_a_tracking_server_that_is_unreachable_is_one_line(
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


def test_a_driver_that_waited_leaves_its_successors_run_alone(
    inputs: TrainingInputs, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
):
    def log_slowly(*arguments: Any) -> None:
        log_datasets(*arguments)
        inputs.directory.acquire_lease()

    monkeypatch.setattr(claim, "log_datasets", log_slowly)
    with pytest.raises(LeaseLostError, match="another process resumed this run"):
        claim_training(inputs, tracking, resume=None)
    (run,) = runs(tracking)
    assert (run.info.status, run.data.params) == ("RUNNING", {})
    assert tracking.client().list_artifacts(run.info.run_id) == []


def runs(tracking: Tracking) -> list[Any]:
    return list(tracking.client().search_runs([tracking.experiment_id]))


DATASETS_OF_A_TRAINING = [("tiny train", "training"), ("tiny val", "validation")]


def datasets(tracking: Tracking) -> list[tuple[str, str]]:
    """Returns name and context of the dataset inputs of the only run."""
    (run,) = runs(tracking)
    return sorted((each.dataset.name, each.tags[0].value) for each in run.inputs.dataset_inputs)


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
        check_resume(inputs.directory, resume=True)
    check_resume(inputs.directory, resume=False)
    first = claim_training(inputs, tracking, resume=False)
    exists = f"a run with this configuration exists .run {first.run_id}."
    with pytest.raises(UserError, match=exists):
        check_resume(inputs.directory, resume=False)
    with pytest.raises(UserError, match=exists):  # as if it had been claimed after the check
        claim_training(inputs, tracking, resume=False)
    check_resume(inputs.directory, resume=True)
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
