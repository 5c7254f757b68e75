"""What the driver of a training asks of the cluster, and how it ends: result, error and interrupt."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.errors import LeaseLostError
from infra.tracking import Tracking
from pipelines.training import driver
from pipelines.training.claim import ClaimedTraining, claim_training
from pipelines.training.config import TrainConfig
from pipelines.training.driver import _fit_interruptibly, _given_up, worker_resources
from pipelines.training.inputs import resolve_inputs
from pipelines.training.setup import TrainingSetup
from shan_model.config import ModelConfig
from tests.support import feature_sets


@pytest.mark.parametrize(
    ("fields", "resources"),
    [
        ({}, {"CPU": 1}),
        ({"cpus_per_worker": 2.5}, {"CPU": 2.5}),
        ({"use_gpu": True, "cpus_per_worker": 4}, {"CPU": 4, "GPU": 1}),
    ],
)
def test_resources_of_a_worker(fields: dict[str, Any], resources: dict[str, float]):
    assert worker_resources(TrainConfig(**fields)) == resources


@pytest.fixture
def training(tracking: Tracking, tmp_path: Path) -> ClaimedTraining:
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12))
    setup = TrainingSetup(
        model=ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8, word_dim=4),
        train=TrainConfig(batch_size=4, max_failures=2, output=str(tmp_path / "runs")),
    )
    return claim_training(resolve_inputs(features, "m", setup), tracking, resume=False)


def test_an_interrupt_after_a_lost_lease_reports_that(
    training: ClaimedTraining, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt("checkpoint x is saved")

    monkeypatch.setattr(driver, "_fit_interruptibly", interrupt)
    for name in ("worker_bar", "_trainer"):  # they need a cluster
        monkeypatch.setattr(driver, name, lambda *_: nullcontext())
    with pytest.raises(KeyboardInterrupt, match="checkpoint x is saved"):
        driver.fit(training, tracking, print)
    training.lease.directory.acquire_lease()
    with pytest.raises(LeaseLostError, match="another process resumed this run"):  # resuming would take it back
        driver.fit(training, tracking, print)


def test_a_training_that_is_given_up_can_be_resumed(training: ClaimedTraining):
    error = RuntimeError("Traceback (most recent call last):\n  in a worker\nWorkerDied: the node was lost \n")
    assert str(_given_up(training, error)) == (
        "training failed after 2 retries (WorkerDied: the node was lost); fix the cause, then re-run with --resume to "
        f"continue from {training.inputs.directory.uri}"
    )


def ended() -> None:
    raise AssertionError("a training that was not interrupted is not stopped")


def test_the_result_of_the_thread_is_returned():
    result = object()
    assert _fit_interruptibly(SimpleNamespace(fit=lambda: result), None, ended) is result


@pytest.mark.parametrize("error", [ValueError("a defect"), SystemExit(3)])
def test_an_error_of_the_thread_is_raised_here(error: BaseException):
    def fit() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        _fit_interruptibly(SimpleNamespace(fit=fit), None, ended)
    assert caught.value is error
