"""Resources of a sweep, and what its callback does for the trials."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search.basic_variant import BasicVariantGenerator
from tqdm import tqdm

from infra.errors import LeaseLostError, StorageError, UserError
from infra.tracking import Tracking
from pipelines.training.config import TrainConfig
from pipelines.training.run_directory import Lease, open_run_directory
from pipelines.training.setup import TrainingSetup
from pipelines.training.sweeps import tuning
from pipelines.training.sweeps.trial import STOPPED_BY, SweepContext
from pipelines.training.sweeps.tuning import SweepCallback


@pytest.mark.parametrize(
    ("nodes", "train", "trials"),
    [
        ([{"CPU": 9}], {"num_workers": 2, "cpus_per_worker": 2}, 2),
        ([{"CPU": 9}] * 50, {"num_workers": 2, "cpus_per_worker": 2}, 8),  # all
        ([{"CPU": 8}], {"num_workers": 2, "cpus_per_worker": 2}, 2),  # trials leave all CPUs to their trainings
        ([{"CPU": 3}] * 3, {"num_workers": 2, "cpus_per_worker": 2}, 1),  # a worker runs on one node
        ([{"CPU": 99, "GPU": 4}], {"num_workers": 2, "use_gpu": True}, 2),
        ([{"CPU": 99}], {"num_workers": 2, "use_gpu": True}, 1),
    ],
)
def test_as_many_trials_run_at_once_as_fit(
    nodes: list[dict[str, float]], train: dict[str, Any], trials: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])
    assert tuning._concurrent_trials(TrainConfig(**train), 8) == trials


def test_trials_wait_on_a_cluster_that_can_grow(
    callback: SweepCallback, search: BasicVariantGenerator, monkeypatch: pytest.MonkeyPatch
):
    """An autoscaler adds nodes for what waits: with one trial at a time, an idle cluster stayed as small as it was."""
    nodes = [{"Alive": True, "Resources": {"CPU": 0.0}, "Labels": {"ray.io/node-group": "head"}}]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    found = []
    for _ in range(4):
        callback._checked = 0.0
        callback.on_step_begin(1, [])
        found.append(search.max_concurrent)
        nodes += [{"Alive": True, "Resources": {"CPU": 2.5}}] * found[-1]
    assert found == [2, 4, 12, 16]


@pytest.fixture
def lease(tmp_path: Path) -> Lease:
    return open_run_directory(str(tmp_path), "m-sweep-0123456789ab").claim()


@pytest.fixture
def search() -> BasicVariantGenerator:
    return BasicVariantGenerator()


@pytest.fixture
def callback(
    tracking: Tracking, lease: Lease, search: BasicVariantGenerator, monkeypatch: pytest.MonkeyPatch
) -> SweepCallback:
    monkeypatch.setattr("ray.nodes", list)
    context = SweepContext("set", "m", TrainingSetup(train=TrainConfig(epochs=4)), tracking, "parent")
    return SweepCallback(tqdm(file=io.StringIO(), total=8), context, lease, search)


@pytest.mark.parametrize(("epoch", "status"), [(2, "KILLED"), (4, "FINISHED")])
def test_run_of_a_completed_trial_ends(callback: SweepCallback, tracking: Tracking, epoch: int, status: str):
    """A trial that did not reach its last epoch was stopped."""
    run_id = tracking.create_run("m", {})
    trial = SimpleNamespace(last_result={"score": 10.0, "run_id": run_id, "epoch": epoch})
    callback.on_trial_complete(1, [trial], trial)
    assert tracking.client().get_run(run_id).info.status == status


def test_a_trial_of_a_sweep_that_was_resumed_keeps_its_run(callback: SweepCallback, tracking: Tracking, lease: Lease):
    run_id = tracking.create_run("m", {})
    lease.directory.acquire_lease()
    trial = SimpleNamespace(last_result={"score": 10.0, "run_id": run_id, "epoch": 2})
    callback.on_trial_complete(1, [trial], trial)
    run = tracking.client().get_run(run_id)
    assert (run.info.status, STOPPED_BY in run.data.tags) == ("RUNNING", False)


def test_mlflow_outage_at_trial_end_is_a_warning(
    callback: SweepCallback, tracking: Tracking, capsys: pytest.CaptureFixture[str]
):
    run_id = tracking.create_run("m", {})
    callback._context = replace(callback._context, tracking=replace(tracking, uri="http://127.0.0.1:9"))
    trial = SimpleNamespace(last_result={"score": 10.0, "run_id": run_id, "epoch": 2})
    callback.on_trial_complete(1, [trial], trial)
    assert f"warning: run {run_id} is completed at the end of the sweep (" in capsys.readouterr().err
    assert callback._bar.n == 1


def test_failed_trial_is_counted_and_named(callback: SweepCallback, capsys: pytest.CaptureFixture[str]):
    error = UserError("the training diverged at step 3")
    trial = SimpleNamespace(config={"values": {"train.seed": 1}}, get_error=lambda: error)
    callback.on_trial_error(1, [trial], trial)
    assert capsys.readouterr().err.strip() == (
        "warning: the trial {'train.seed': 1} failed (the training diverged at step 3)"
    )
    assert callback._bar.n == 1


def test_outage_of_the_store_does_not_end_the_sweep(
    callback: SweepCallback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def away(_: Lease) -> None:
        raise StorageError("s3://b: GetObject failed")

    monkeypatch.setattr(Lease, "require", away)
    callback.on_step_begin(1, [])
    callback.on_step_begin(1, [])
    assert capsys.readouterr().err.strip() == "warning: s3://b: GetObject failed; the sweep continues"


def test_trial_without_a_result_is_counted(callback: SweepCallback):
    bar = callback._bar
    callback.on_trial_complete(1, ["a", "b"], SimpleNamespace(last_result={}))
    assert (bar.n, bar.total) == (1, 8)


def test_lost_lease_ends_the_sweep(callback: SweepCallback, lease: Lease):
    callback.on_step_begin(1, [])
    lease.directory.acquire_lease()
    callback.on_step_begin(1, [])  # within CHECK_S of the last check
    callback._checked = 0.0
    with pytest.raises(LeaseLostError):
        callback.on_step_begin(1, [])
