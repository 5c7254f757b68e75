"""Training that is cut off, by real signals, and goes on: to the last bit what an undisturbed one comes to."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from infra.storage.open import open_store
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.features.feature_set import FeatureSet
from pipelines.training.checkpoint import read_progress
from pipelines.training.run_directory import place_at
from tests.support import feature_sets
from tests.support.clusters import ENVIRONMENT, LocalCluster, local_cluster, tree
from tests.support.processes import children, command_line, kill, wait_until
from tests.support.servers import S3Server

STEPS_PER_EPOCH, EPOCHS = 80, 3
SETTINGS = [
    "--name=drill", f"--model.region_dim={feature_sets.FEATURE_DIM}", "--model.joint_dim=8", "--model.word_dim=8",
    f"--train.epochs={EPOCHS}", "--train.batch_size=4", "--train.learning_rate=1e-3", "--train.ema_decay=0.9",
    "--train.checkpoint_every_n_steps=20", "--train.hard_negative_warmup_epochs=1",
    "--cluster.local_object_store_mb=100",
]  # fmt: skip


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder = tmp_path_factory.mktemp("features")
    return feature_sets.memorable(folder, 241)


DRIVERS: list["subprocess.Popen[bytes]"] = []


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """Where a drill fails, its driver and all that it has started end with it."""
    yield
    while DRIVERS:
        driver = DRIVERS.pop()
        if driver.poll() is None:
            for pid in [*tree(driver.pid), driver.pid]:
                kill(pid)
            driver.wait()


def start(features: FeatureSet, folder: Path, *more: str) -> "subprocess.Popen[bytes]":
    """`python -m jobs.train` in a folder; its Ray cluster is its own if no address is given."""
    environment = os.environ | ENVIRONMENT
    with (folder / "log").open("ab") as log:
        driver = subprocess.Popen(
            [sys.executable, "-m", "jobs.train", f"--features={features.uri}", *SETTINGS, *more],
            cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
    DRIVERS.append(driver)
    return driver


def finish(process: "subprocess.Popen[bytes]", folder: Path, code: int = 0) -> str:
    process.wait(240)
    said = (folder / "log").read_text()
    assert process.returncode == code, said
    return said


def tracking_of(folder: Path) -> Tracking:
    return connect(TrackingConfig(uri=f"sqlite:///{folder}/build/mlflow/mlflow.db"))


def run_of(folder: Path) -> Any:
    """The only MLflow run."""
    tracking = tracking_of(folder)
    (run,) = tracking.client().search_runs([tracking.experiment_id])
    return run


def outcome(folder: Path, epochs: int = EPOCHS) -> tuple[dict[str, object], dict[str, list[tuple[int, float]]]]:
    """Every tensor of the last checkpoint, and the curves of the only run, but for times and speeds."""
    (last,) = folder.glob(f"build/runs/drill-*/epoch-{epochs:03d}")
    tensors = {f"{file.name}/{name}": t for file in last.glob("*.safetensors") for name, t in load_file(file).items()}
    client, run = tracking_of(folder).client(), run_of(folder)
    assert run.info.status == "FINISHED"
    assert [int(v.version) for v in client.search_model_versions("name = 'drill'")] == [1]
    curves = {
        name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        for name in ("loss", "grad_norm", "lr", "val_rsum", "val_image_to_text_r1", "epoch")
    }
    progress = read_progress(last)
    curves["best"] = [(progress.best_epoch, progress.best_rsum)]
    return tensors, {name: sorted(points) for name, points in curves.items()}


def goes_on(driver: "subprocess.Popen[bytes]", folder: Path, epochs: int = EPOCHS) -> bool:
    """Whether a driver lives and its last epoch has no checkpoint yet: whatever happens now happens to a training."""
    return driver.poll() is None and not any(folder.glob(f"build/runs/drill-*/epoch-{epochs:03d}"))


def assert_same(found: Path, expected: Path, epochs: int = EPOCHS) -> None:
    tensors, curves = outcome(found, epochs)
    expected_tensors, expected_curves = outcome(expected, epochs)
    assert tensors.keys() == expected_tensors.keys()
    assert [name for name, t in tensors.items() if not t.equal(expected_tensors[name])] == []
    assert curves == expected_curves


@pytest.fixture(scope="module")
def undisturbed(features: FeatureSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(start(features, folder), folder)
    return folder


def wait_for_step(folder: Path, step: int) -> None:
    """Until a checkpoint of that step or a later one is stored in the middle of an epoch."""

    def there() -> bool:
        return any(int(path.name[5:]) >= step for path in folder.glob("build/runs/drill-*/step-*"))

    wait_until(there, patience_s=120)


def train_workers(driver: int) -> list[int]:
    """Ids of the training processes of a driver's own cluster."""
    found, left = [], [driver]
    while left:
        pid = left.pop()
        left += children(pid)
        if "ray::RayTrainWorker" in command_line(pid) or "ray::TrainWorker" in command_line(pid):
            found.append(pid)
    return found


def test_the_curves_are_whole(undisturbed: Path):
    _, curves = outcome(undisturbed)
    steps = EPOCHS * STEPS_PER_EPOCH
    assert [step for step, _ in curves["loss"]] == list(range(10, steps + 1, 10))
    assert [step for step, _ in curves["val_rsum"]] == [80, 160, 240]
    assert len({rsum for _, rsum in curves["val_rsum"]}) == 3  # else the drills say nothing about it


def test_a_killed_worker_changes_nothing(features: FeatureSet, undisturbed: Path, tmp_path: Path):
    driver = start(features, tmp_path)
    wait_for_step(tmp_path, 100)
    victims = train_workers(driver.pid)
    assert len(victims) == 2
    assert kill(victims[1])
    assert goes_on(driver, tmp_path)
    finish(driver, tmp_path)
    assert_same(tmp_path, undisturbed)


def test_resume_needs_something_and_a_finished_training_is_not_done_again(
    features: FeatureSet, undisturbed: Path, tmp_path: Path
):
    assert "error: nothing to resume at" in finish(start(features, tmp_path, "--resume"), tmp_path, code=2)
    said = finish(start(features, undisturbed, "--resume"), undisturbed)
    assert said.count("drill version 1") == 2
    assert "this training was finished already" in finish(start(features, undisturbed), undisturbed, code=2)


@pytest.fixture
def two_nodes() -> Iterator[LocalCluster]:
    """A head and a node with a CPU each: a training process on both."""
    with local_cluster(1) as cluster:
        cluster.add_node(1)
        yield cluster


def test_a_lost_node_changes_nothing(features: FeatureSet, undisturbed: Path, tmp_path: Path, two_nodes: LocalCluster):
    driver = start(features, tmp_path, f"--cluster.address={two_nodes.address}")
    wait_for_step(tmp_path, 100)
    two_nodes.lose(two_nodes.nodes[0])
    assert goes_on(driver, tmp_path)
    two_nodes.add_node(1)
    finish(driver, tmp_path)
    assert_same(tmp_path, undisturbed)


def test_an_elastic_training_goes_on_with_fewer_workers(
    features: FeatureSet, undisturbed: Path, tmp_path: Path, two_nodes: LocalCluster
):
    """The batches stay the same, so the curves stay within rounding of those of two workers."""
    driver = start(features, tmp_path, f"--cluster.address={two_nodes.address}", "--train.min_workers=1")
    wait_for_step(tmp_path, 100)
    two_nodes.lose(two_nodes.nodes[0])
    finish(driver, tmp_path)
    history = tracking_of(tmp_path).client().get_metric_history(run_of(tmp_path).info.run_id, "num_workers")
    workers = [point.value for point in history]
    assert workers == sorted(workers, reverse=True)
    assert set(workers) == {2, 1}
    (_, curves), (_, expected_curves) = outcome(tmp_path), outcome(undisturbed)
    assert [step for step, _ in curves["loss"]] == [step for step, _ in expected_curves["loss"]]
    losses, expected = ([value for _, value in c["loss"]] for c in (curves, expected_curves))
    assert losses == pytest.approx(expected, rel=1e-3)


def test_a_node_that_is_to_be_taken_away_saves_first(features: FeatureSet, tmp_path: Path, two_nodes: LocalCluster):
    """No checkpoint is due within an epoch: one comes because Ray announces that the node will go. Losing it is then no
    failure."""
    epochs = 7
    more = (f"--train.epochs={epochs}", "--train.checkpoint_every_n_steps=100000", "--train.max_failures=0")
    whole, drained = tmp_path / "whole", tmp_path / "drained"
    whole.mkdir()
    drained.mkdir()
    finish(start(features, whole, *more), whole)
    worker = two_nodes.worker_id()  # asked for now: it takes seconds, in which training might end
    driver = start(features, drained, *more, f"--cluster.address={two_nodes.address}")
    wait_until(lambda: any(drained.glob("build/runs/drill-*/epoch-*")), patience_s=120)
    two_nodes.drain(worker, seconds=3)
    deadline = time.monotonic() + 3  # a node that dies before it counts as a failure
    wait_until(lambda: "/step-" in (drained / "log").read_text(), patience_s=60)  # Ray Train tells of checkpoints
    two_nodes.add_node(1)
    time.sleep(max(0.0, deadline - time.monotonic()))
    two_nodes.lose(two_nodes.nodes[0])
    assert goes_on(driver, drained, epochs)
    finish(driver, drained)
    assert_same(drained, whole, epochs)


def test_a_killed_driver_and_one_that_is_taken_over_change_nothing(
    features: FeatureSet, undisturbed: Path, tmp_path: Path, s3_server: S3Server
):
    """With checkpoints on S3: one driver dies, the next finds that another has come to go on, which does so."""
    output = f"s3://{s3_server.bucket}/runs"
    store = open_store(output)
    driver = start(features, tmp_path, f"--train.output={output}")
    stored = re.compile(r"/step-00000(1[0-9]|2[0-3])0/")
    wait_until(lambda: any(stored.search(name) for name in store.objects()), patience_s=120)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    again = start(features, tmp_path, f"--train.output={output}")
    assert "--resume goes on with it" in finish(again, tmp_path, code=2)

    (place,) = {name.split("/")[0] for name in store.objects()}
    late = start(features, tmp_path, f"--train.output={output}", "--resume")
    wait_until(lambda: f"{place}/driver-000002.json" in store.objects(), patience_s=120)
    before = {name for name in store.objects() if name.endswith("progress.json")}
    assert place_at(output, place).take().number == 3
    said = finish(late, tmp_path, code=2)
    assert f"error: {output}/{place}: another process goes on with this; it is left to that one\n" in said
    assert {name for name in store.objects() if name.endswith("progress.json")} == before
    assert run_of(tmp_path).info.status == "RUNNING"

    finish(start(features, tmp_path, f"--train.output={output}", "--resume"), tmp_path)
    for name in store.objects():
        path = tmp_path / "build" / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.read(name))
    assert_same(tmp_path, undisturbed)
    kept = {name.split("/")[1] for name in store.objects() if name.endswith("lineage.json")}
    _, curves = outcome(tmp_path)
    best = max(reversed(curves["val_rsum"]), key=lambda point: point[1])[0] // STEPS_PER_EPOCH  # of equal ones the last
    assert kept == {f"epoch-{best:03d}", f"epoch-{EPOCHS:03d}"}
