"""A sweep by the user's command: nested runs, weaker trials stopped, the best registered, nothing done twice."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from infra.tracking import TrackingConfig, connect
from pipelines.feature_set import FeatureSet
from pipelines.manifest import Manifest
from tests import feature_sets
from tests.clusters import ENVIRONMENT

pytestmark = pytest.mark.slow


def memorable(folder: Path) -> FeatureSet:
    """Validation photos are training photos once more, so that what is learnt shows."""
    photos = list(feature_sets.manifest(folder, 60).photos())
    rows = [
        photo if i % 6 < 4 else replace(photos[i - 4], key=photo.key, split=photo.split)
        for i, photo in enumerate(photos)
    ]
    change = {
        photo.key: {"regions_RF": feature_sets.sample(photos[i - 4]).regions_RF}
        for i, photo in enumerate(photos)
        if i % 6 >= 4
    }
    return feature_sets.write_set(folder, Manifest.build("tiny", str(folder / "photos"), rows), change)


def sweep(folder: Path, features: str) -> str:
    command = [sys.executable, "-m", "jobs.sweep", f"--features={features}", "--name=swept", "--sweep.trials=1"]
    command += ["--space", "train.learning_rate=grid(1e-2, 1e-12, 1e-11)", "model.gate=choice(scalar)"]
    command += [f"--model.region_dim={feature_sets.FEATURE_DIM}", "--model.joint_dim=8", "--model.word_dim=8"]
    command += ["--train.epochs=8", "--train.batch_size=4", "--train.workers=1", "--sweep.grace_epochs=2"]
    command += ["--cluster.local_object_store_mb=100", "--cluster.local_cpus=3"]
    result = subprocess.run(
        command, cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=400
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.usefixtures("ray_session")
def test_a_sweep_registers_its_best_trial_and_goes_on_where_it_was(tmp_path: Path):
    """Beside another Ray on the machine, which Ray Train's own cleaning does not expect."""
    features = memorable(tmp_path)
    said = sweep(tmp_path, features.uri)
    tracking = connect(TrackingConfig(uri=f"sqlite:///{tmp_path}/build/mlflow/mlflow.db"))
    client = tracking.client()
    runs = client.search_runs([tracking.experiment_id])
    (parent,) = [run for run in runs if run.info.run_name == "swept sweep"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(runs) == 4
    assert len(children) == 3
    assert {float(run.data.params["train.learning_rate"]) for run in children} == {1e-12, 1e-2, 1e-11}
    assert {run.data.params["model.gate"] for run in children} == {"scalar"}
    ends = {run.info.run_id: run.info.status for run in children}
    assert set(ends.values()) == {"FINISHED", "KILLED"}
    (version,) = client.search_model_versions("name = 'swept'")
    best = next(run for run in children if run.info.run_id == version.run_id)
    assert ends[best.info.run_id] == "FINISHED"
    peaks = {
        run.info.run_id: max(point.value for point in client.get_metric_history(run.info.run_id, "val_rsum"))
        for run in children
        if "val_rsum" in run.data.metrics
    }
    assert peaks[version.run_id] == max(peaks.values())
    rsums = [point.value for point in client.get_metric_history(version.run_id, "val_rsum")]
    kept = {path.name for path in Path(best.data.tags["checkpoints"]).glob("epoch-*")}
    assert kept == {f"epoch-{8 - rsums[::-1].index(max(rsums)):03d}", "epoch-008"}  # of equals the last
    assert version.run_id in said
    again = sweep(tmp_path, features.uri)
    assert f"swept version 1 (run {version.run_id})" in again
    assert len(client.search_runs([tracking.experiment_id])) == 4
    assert [point.step for point in client.get_metric_history(parent.info.run_id, "val_rsum")] == [0]
    for run_id in ends:
        steps = [point.step for point in client.get_metric_history(run_id, "val_rsum")]
        assert len(steps) == len(set(steps))
