"""Resources of a sweep, and what its callback does for the trials."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tqdm import tqdm

from infra.errors import LeaseLostError
from infra.tracking import Tracking
from pipelines.training.config import TrainConfig
from pipelines.training.run_directory import Lease, open_run_directory
from pipelines.training.setup import TrainingSetup
from pipelines.training.sweeps import tuning
from pipelines.training.sweeps.trial import STOPPED_BY, SweepContext
from pipelines.training.sweeps.tuning import SweepCallback


@pytest.mark.parametrize(
    ("resources", "train", "trials"),
    [
        ({"CPU": 9}, {"num_workers": 2, "cpus_per_worker": 2}, 2),
        ({"CPU": 4}, {"num_workers": 2, "cpus_per_worker": 2}, 1),  # less than a trial needs, for its own share
        ({"CPU": 99, "GPU": 4}, {"num_workers": 2, "use_gpu": True}, 2),
        ({"CPU": 99}, {"num_workers": 2, "use_gpu": True}, 1),
    ],
)
def test_as_many_trials_run_at_once_as_fit(
    resources: dict[str, float], train: dict[str, Any], trials: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tuning.ray, "cluster_resources", lambda: resources)
    assert tuning._concurrent_trials(TrainConfig(**train)) == trials


@pytest.fixture
def lease(tmp_path: Path) -> Lease:
    return open_run_directory(str(tmp_path), "m-sweep-0123456789ab").claim()


@pytest.fixture
def callback(tracking: Tracking, lease: Lease) -> SweepCallback:
    setup = TrainingSetup(train=TrainConfig(epochs=4))
    return SweepCallback(tqdm(file=io.StringIO()), SweepContext("set", "m", setup, tracking, "parent"), lease)


@pytest.mark.parametrize(("epoch", "status", "stopped_by"), [(2, "KILLED", "parent"), (4, "FINISHED", None)])
def test_run_of_a_completed_trial_ends(
    callback: SweepCallback, tracking: Tracking, epoch: int, status: str, stopped_by: str | None
):
    run_id = tracking.create_run("m", {})
    trial = SimpleNamespace(last_result={"score": 10.0, "run_id": run_id, "epoch": epoch})
    callback.on_trial_complete(1, [trial], trial)
    run = tracking.client().get_run(run_id)
    assert (run.info.status, run.data.tags.get(STOPPED_BY)) == (status, stopped_by)


def test_trial_without_a_result_is_counted(callback: SweepCallback):
    bar = callback._bar
    callback.on_trial_complete(1, ["a", "b"], SimpleNamespace(last_result={}))
    assert (bar.n, bar.total) == (1, 2)


def test_lost_lease_ends_the_sweep(callback: SweepCallback, lease: Lease):
    callback.on_step_begin(1, [])
    lease.directory.acquire_lease()
    callback.on_step_begin(1, [])  # within LEASE_CHECK_S of the last check
    callback._checked = 0.0
    with pytest.raises(LeaseLostError):
        callback.on_step_begin(1, [])
