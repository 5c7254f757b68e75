"""A pipeline that is killed and started again ends with the results of an uninterrupted one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from infra.registry import champion_version
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.generate import generate
from tests.support.clusters import ENVIRONMENT, kill_tree
from tests.support.processes import DEADLINE_S, wait_during

OPTIONS = [
    "--name=m", "--until=index", "--index.photos_per_partition=8", "--train.batch_size=16", "--train.num_workers=1",
    "--model.joint_dim=16", "--model.word_dim=8", "--extract.photos_per_shard=8", "--cluster.local_object_store_mb=200",
]  # fmt: skip
KILLS = {
    "extract": ("build/features/*/*.tar", "build/features/*/index.json"),
    "train": ("build/runs/m-*/epoch-002*", "build/runs/m-*/finished.json"),
    "evaluate": ("build/runs/m-*/finished.json", "build/mlflow/artifacts/**/evaluation_test.md"),
    "promote": ("] the better version becomes champion", "build/indexes"),
    "index": ("build/indexes/*/*.receipt.json", "build/indexes/*/index.json"),
}
"""For each stage, a file, or text of the log, that appears while it runs or right before; and a file that ends it."""


def start(folder: Path, data: Path, epochs: int) -> "subprocess.Popen[bytes]":
    of_data = [f"--dataset={data}", f"--photos={data.parent}/photos", f"--train.epochs={epochs}"]
    command = [sys.executable, "-m", "jobs.pipeline", *of_data, *OPTIONS]
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=os.environ | ENVIRONMENT)


def finish(driver: "subprocess.Popen[bytes]", folder: Path) -> None:
    assert driver.wait(DEADLINE_S) == 0, (folder / "log").read_text()


def kill_when(driver: "subprocess.Popen[bytes]", folder: Path, sign: str, end: str) -> None:
    """Kills a driver with all of its processes as soon as the sign appears, and before the end does."""

    def appeared() -> bool:
        return any(folder.glob(sign)) or sign in (folder / "log").read_text()

    assert not appeared(), "an earlier kill came too late"
    try:
        wait_during(driver, folder / "log", appeared)
    finally:
        kill_tree(driver)
    assert not any(folder.glob(end)), "the kill came too late"


def tracking_of(folder: Path) -> Tracking:
    return connect(TrackingConfig(uri=f"sqlite:///{folder}/build/mlflow/mlflow.db"))


def result(folder: Path) -> tuple[dict[str, bytes], dict[str, object], dict[str, float], dict[str, str]]:
    """Returns the shards and partitions, the weights, the metrics and the decision of a finished pipeline."""
    stored = [*folder.glob("build/features/*/*.tar"), *folder.glob("build/indexes/*/*-*.*")]
    stored = [path for path in stored if not path.name.startswith(".")]  # a killed writer leaves its temporary file
    # The digest of an index is in the name of its snapshot, whose content names the folder of the features.
    shards = {path.name: b"" if path.name.startswith("snapshot-") else path.read_bytes() for path in stored}
    client = (tracking := tracking_of(folder)).client()
    (version,) = client.search_model_versions("name = 'm'")
    (run,) = client.search_runs([tracking.experiment_id])
    assert run.info.status == "FINISHED"
    names = ("val_rsum", "test_rsum", "loss")
    metrics = {name: run.data.metrics[name] for name in names}
    (weights,) = folder.glob("build/mlflow/artifacts/models/*/artifacts/**/weights.safetensors")
    decision = {key: version.tags[key] for key in ("promotion.decision", "promotion.reason", "promotion.rsum")}
    return shards, load_file(weights), metrics, decision


@pytest.mark.long  # each stage has a kill test of its own
def test_killed_pipeline_gives_same_result(tmp_path: Path):
    scenes, epochs = ScenesConfig(train=96, val=16, test=16, seed=5), 6
    data, whole, killed = generate(scenes, tmp_path / "scenes"), tmp_path / "whole", tmp_path / "killed"
    finish(start(whole, data, epochs), whole)
    for stage, files in KILLS.items():
        kill_when(start(killed, data, epochs), killed, *files)
        if stage == "promote":
            assert champion_version(tracking_of(killed), "m") is None, "the kill came too late"
    finish(start(killed, data, epochs), killed)
    log = (killed / "log").read_text()
    assert "; 0 detected now" in log
    assert re.search(r"\n  train +resumes after [1-5] of 6 epochs in ", log)
    assert re.search(r"\n  evaluate +done\n", log)
    (shards, weights, *rest), (expected_shards, expected_weights, *expected) = result(killed), result(whole)
    assert shards == expected_shards
    assert [name for name, tensor in weights.items() if not tensor.equal(expected_weights[name])] == []
    assert rest == expected
