"""A sweep whose driver is interrupted or killed: it resumes, stops weaker trials, registers the best one and repeats
nothing.
"""

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from mlflow.entities import Run

from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.models.selection import Selection, read_selection
from tests.support import feature_sets
from tests.support.clusters import ENVIRONMENT, kill_tree
from tests.support.processes import DEADLINE_S, wait_during

EPOCHS = 4


def command(features: str, rates: Sequence[float]) -> list[str]:
    """Returns a sweep over learning rates, of which all but the first learn nothing."""
    found = [sys.executable, "-m", "jobs.sweep", f"--features={features}", "--name=swept", "--sweep.num_trials=1"]
    found += ["--space", f"train.learning_rate=grid({', '.join(map(str, rates))})", "model.gate=choice(scalar)"]
    found += [f"--model.region_dim={feature_sets.FEATURE_DIM}", "--model.joint_dim=8", "--model.word_dim=8"]
    found += [f"--train.epochs={EPOCHS}", "--train.batch_size=4", "--train.num_workers=1"]
    found += ["--sweep.grace_period_epochs=2"]
    found += ["--cluster.local_cpus=2", "--train.cpus_per_worker=2"]  # room for one trial at a time, so in order
    return [*found, "--cluster.local_object_store_mb=100"]


def sweep(folder: Path, arguments: list[str]) -> str:
    environment = os.environ | ENVIRONMENT
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def end_in_last_trial(
    folder: Path, arguments: list[str], tracking: Tracking, number: signal.Signals, last: int
) -> None:
    """Ends a sweep by a signal while its last trial, which has that number, runs."""
    with (folder / "log").open("wb") as log:
        driver = subprocess.Popen(
            arguments, cwd=folder, env=os.environ | ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT
        )

    def is_in_last_trial() -> bool:
        found = statuses(tracking)
        return len(found["RUNNING"]) == 2 and len(found["FINISHED"] + found["KILLED"]) == last - 1

    try:
        wait_during(driver, folder / "log", is_in_last_trial, every_s=0.2)
        if number == signal.SIGTERM:
            driver.terminate()
            assert driver.wait(DEADLINE_S) == 143
            assert "interrupted; re-run the same command to continue" in (folder / "log").read_text()
            assert "RUNNING" not in statuses(tracking)
    finally:
        kill_tree(driver)


def statuses(tracking: Tracking) -> dict[str, list[str]]:
    """Returns the names of the runs of each status."""
    found = defaultdict(list)
    for run in tracking.client().search_runs([tracking.experiment_id]):
        found[run.info.status].append(run.info.run_name)
    return found


def trials(tracking: Tracking) -> list[Run]:
    """Returns the runs that have a parent."""
    runs = tracking.client().search_runs([tracking.experiment_id])
    return [run for run in runs if "mlflow.parentRunId" in run.data.tags]


def checkpoints(trial: Run) -> set[str]:
    """Returns the names of the checkpoints in a trial's run directory."""
    return {path.name for path in Path(trial.data.tags["run_directory"]).glob("epoch-*")}


@pytest.mark.long  # tests/pipelines/training/sweeps has the parts
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.usefixtures("ray_session")
def test_an_ended_sweep_resumes_and_registers_its_best_trial(tmp_path: Path, number: signal.Signals):
    """Another Ray session runs on the machine, which Ray Train's cleanup does not expect.

    ASHA has stopped a trial before the sweep is ended.
    """
    rates = [1e-2, 1e-12, 1e-11]
    features = feature_sets.memorable(tmp_path, 60)
    arguments = command(features.uri, rates)
    tracking = connect(TrackingConfig(uri=f"sqlite:///{tmp_path}/build/mlflow/mlflow.db"))
    client = tracking.client()
    end_in_last_trial(tmp_path, arguments, tracking, number, len(rates))
    before = {run.info.run_id: (run.info.status, checkpoints(run)) for run in trials(tracking)}

    said = sweep(tmp_path, arguments)
    runs = client.search_runs([tracking.experiment_id])
    (parent,) = [run for run in runs if run.info.run_name == "swept sweep"]
    children = {run.info.run_id: run for run in trials(tracking)}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert (len(runs), len(children), parent.info.status) == (len(rates) + 1, len(rates), "FINISHED")
    assert {float(run.data.params["train.learning_rate"]) for run in children.values()} == set(rates)
    assert {run.data.params["model.gate"] for run in children.values()} == {"scalar"}
    ends = {run_id: run.info.status for run_id, run in children.items()}
    assert set(ends.values()) == {"FINISHED", "KILLED"}
    last = max(children.values(), key=lambda run: run.info.start_time).info.run_id
    for run_id in children.keys() - {last}:  # what was finished or stopped stays so
        assert (ends[run_id], checkpoints(children[run_id])) == before[run_id]

    curves = {run_id: client.get_metric_history(run_id, "val_rsum") for run_id in children}
    for run_id, points in curves.items():  # complete, and no step twice
        steps = [point.step for point in points]
        assert steps == [steps[0] * (i + 1) for i in range(len(steps))], ends[run_id]
        assert len(steps) == EPOCHS if ends[run_id] == "FINISHED" else 2 <= len(steps) < EPOCHS
    (version,) = client.search_model_versions("name = 'swept'")
    rsums = [point.value for point in curves[version.run_id]]
    assert max(rsums) == max(point.value for points in curves.values() for point in points)
    assert version.run_id in said
    assert read_selection(version.tags) == Selection(parent.info.run_id, len(rates), "val", features.dataset)
    kept = {name.partition("-lease-")[0] for name in checkpoints(children[version.run_id])}
    best = EPOCHS - rsums[::-1].index(max(rsums))  # of equals the last
    assert kept == {f"epoch-{best:03d}", f"epoch-{EPOCHS:03d}"}

    assert said.endswith(sweep(tmp_path, arguments))
    assert len(client.search_runs([tracking.experiment_id])) == len(rates) + 1
    assert [point.step for point in client.get_metric_history(parent.info.run_id, "val_rsum")] == [0]
