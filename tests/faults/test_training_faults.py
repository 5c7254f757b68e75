"""Trainings that lose workers, nodes and drivers, by real signals.

Each must end with exactly the weights and metrics of an uninterrupted training.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from safetensors.torch import load_file

from infra.storage.open import open_store
from infra.tracking import Tracking, TrackingConfig, connect
from infra.tracking_file import prepare_file
from pipelines.features.feature_set import FeatureSet
from pipelines.training.checkpoint import read_progress
from pipelines.training.run_directory import open_run_directory
from tests.support import feature_sets
from tests.support.clusters import ENVIRONMENT, LocalCluster, kill_tree, local_cluster, tree
from tests.support.processes import DEADLINE_S, command_line, kill, wait_during
from tests.support.servers import S3Server

STEPS_PER_EPOCH, EPOCHS = 40, 5
SETTINGS = [
    "--name=shan", f"--model.region_dim={feature_sets.FEATURE_DIM}", "--model.joint_dim=8", "--model.word_dim=8",
    f"--train.epochs={EPOCHS}", "--train.batch_size=4", "--train.learning_rate=1e-3", "--train.ema_decay=0.9",
    "--train.hard_negative_warmup_epochs=1",
]  # fmt: skip
MID_EPOCH = "--train.checkpoint_every_n_steps=20"
"""Checkpoints within epochs, too. It does not change what is trained."""


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return feature_sets.memorable(tmp_path_factory.mktemp("features"), 121)


DRIVERS: list["subprocess.Popen[bytes]"] = []


@pytest.fixture(autouse=True)
def no_driver_survives() -> Iterator[None]:
    """Ends the drivers of a failed test, with all of their processes."""
    yield
    while DRIVERS:
        driver = DRIVERS.pop()
        if driver.poll() is None:
            kill_tree(driver)


def start(features: FeatureSet, folder: Path, *more: str) -> "subprocess.Popen[bytes]":
    """Starts `python -m jobs.train` in a folder, on a local Ray session unless `more` names a cluster."""
    local = [] if any("--cluster.address" in option for option in more) else ["--cluster.local_object_store_mb=100"]
    prepare_file(folder / "build" / "mlflow" / "mlflow.db")
    with (folder / "log").open("ab") as log:
        driver = subprocess.Popen(
            [sys.executable, "-m", "jobs.train", f"--features={features.uri}", *SETTINGS, *local, *more],
            cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=os.environ | ENVIRONMENT,
        )  # fmt: skip
    DRIVERS.append(driver)
    return driver


def finish(driver: "subprocess.Popen[bytes]", folder: Path, code: int = 0) -> str:
    """Waits for a driver, checks its exit code and returns its log."""
    driver.wait(DEADLINE_S)
    log = (folder / "log").read_text()
    assert driver.returncode == code, log
    return log


def tracking_of(folder: Path) -> Tracking:
    return connect(TrackingConfig(uri=f"sqlite:///{folder}/build/mlflow/mlflow.db"))


def run_of(folder: Path) -> Any:
    """Returns the only MLflow run."""
    tracking = tracking_of(folder)
    (run,) = tracking.client().search_runs([tracking.experiment_id])
    return run


def result(folder: Path) -> tuple[dict[str, object], dict[str, list[tuple[int, float]]]]:
    """Returns every tensor of the last checkpoint and the metrics of the only run, except times and throughput."""
    (last,) = folder.glob(f"build/runs/shan-*/epoch-{EPOCHS:03d}-*")
    tensors = {f"{file.name}/{name}": t for file in last.glob("*.safetensors") for name, t in load_file(file).items()}
    client, run = tracking_of(folder).client(), run_of(folder)
    assert run.info.status == "FINISHED"
    assert [int(v.version) for v in client.search_model_versions("name = 'shan'")] == [1]
    metrics = {
        name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        for name in ("loss", "grad_norm", "lr", "val_rsum", "val_image_to_text_r1", "epoch")
    }
    progress = read_progress(last)
    metrics["best"] = [(progress.best_epoch, progress.best_rsum)]
    return tensors, {name: sorted(points) for name, points in metrics.items()}


def is_training(driver: "subprocess.Popen[bytes]", folder: Path) -> bool:
    """Returns whether a driver runs and has not saved its last epoch, so that a fault now hits a training."""
    return driver.poll() is None and not any(folder.glob(f"build/runs/shan-*/epoch-{EPOCHS:03d}-*"))


def assert_same(found: Path, expected: Path) -> None:
    """Checks that two trainings ended with the same tensors, bit by bit, and the same metrics."""
    tensors, metrics = result(found)
    expected_tensors, expected_metrics = result(expected)
    assert tensors.keys() == expected_tensors.keys()
    assert [name for name, t in tensors.items() if not t.equal(expected_tensors[name])] == []
    assert metrics == expected_metrics


@pytest.fixture(scope="module")
def uninterrupted(features: FeatureSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nothing happened to."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    finish(start(features, folder), folder)
    return folder


def wait_for(driver: "subprocess.Popen[bytes]", folder: Path, true: Callable[[], bool]) -> None:
    """Waits until a condition holds, which a running driver must bring about."""
    wait_during(driver, folder / "log", true)


def wait_for_checkpoint(driver: "subprocess.Popen[bytes]", folder: Path, pattern: str) -> None:
    """Waits until a driver has stored a checkpoint of a name."""
    wait_for(driver, folder, lambda: any(folder.glob(f"build/runs/shan-*/{pattern}-lease-*")))


def train_workers(pid: int) -> list[int]:
    """Returns the ids of the training processes that a process has started."""
    return [each for each in tree(pid) if re.search("ray::(Ray)?TrainWorker", command_line(each))]


@pytest.fixture
def two_nodes() -> Iterator[LocalCluster]:
    """A head and a node with a CPU each, so that each has one training process."""
    with local_cluster(1) as cluster:
        cluster.add_node(1)
        yield cluster


def test_metrics_are_complete_and_change_from_epoch_to_epoch(uninterrupted: Path):
    _, metrics = result(uninterrupted)
    steps = EPOCHS * STEPS_PER_EPOCH
    assert [step for step, _ in metrics["loss"]] == list(range(10, steps + 1, 10))
    assert [step for step, _ in metrics["val_rsum"]] == list(range(STEPS_PER_EPOCH, steps + 1, STEPS_PER_EPOCH))
    assert len({rsum for _, rsum in metrics["val_rsum"]}) > EPOCHS // 2  # else comparing them would show nothing


def test_lost_workers_nodes_and_drivers_change_nothing(
    features: FeatureSet, uninterrupted: Path, tmp_path: Path, two_nodes: LocalCluster
):
    """The two failures use up `max_failures`, so the training continues only if losing the preempted node is none.

    In the end its driver is killed, and another one resumes it.

    Within epochs only a preemption notice saves a checkpoint here.
    """
    driver = start(features, tmp_path, f"--cluster.address={two_nodes.address}", "--train.max_failures=2")
    wait_for_checkpoint(driver, tmp_path, "epoch-001")
    (victim,) = train_workers(two_nodes.nodes[0].pid)
    assert is_training(driver, tmp_path)
    assert kill(victim)

    wait_for_checkpoint(driver, tmp_path, "epoch-002")
    assert is_training(driver, tmp_path)
    two_nodes.lose(two_nodes.nodes[0])
    two_nodes.add_node(1)

    wait_for_checkpoint(driver, tmp_path, "epoch-003")
    assert is_training(driver, tmp_path)
    assert "/step-" not in (tmp_path / "log").read_text()
    (paused,) = train_workers(two_nodes.nodes[1].pid)
    os.kill(paused, signal.SIGSTOP)  # so that the training cannot end before Ray Train has noticed
    two_nodes.drain(seconds=10)  # after its deadline, Ray Train would restart without a checkpoint
    deadline = time.monotonic() + 10  # a node that dies before its deadline counts as a failure
    wait_for(driver, tmp_path, lambda: two_nodes.train_logged("received preemption signal"))
    os.kill(paused, signal.SIGCONT)
    (snapshot,) = tmp_path.glob("build/runs/shan-*/checkpoint_manager_snapshot.json")
    wait_for(driver, tmp_path, lambda: "step-" in snapshot.read_text())
    os.kill(paused, signal.SIGSTOP)  # so that the training cannot end before the node is lost
    two_nodes.add_node(1)
    time.sleep(max(0.0, deadline - time.monotonic()))
    assert is_training(driver, tmp_path)
    two_nodes.lose(two_nodes.nodes[1])

    wait_for_checkpoint(driver, tmp_path, "epoch-004")
    assert is_training(driver, tmp_path)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    finish(start(features, tmp_path, f"--cluster.address={two_nodes.address}", "--resume"), tmp_path)
    assert_same(tmp_path, uninterrupted)


@pytest.mark.long
def test_another_cluster_on_the_machine_changes_nothing(features: FeatureSet, tmp_path: Path):
    """A training on one cluster continues beside another one that was started last; any failure would end it."""
    with TemporaryDirectory(prefix="ray", dir="/tmp") as temporary:
        environment = {**ENVIRONMENT, "RAY_TMPDIR": temporary}
        last_started = Path(temporary, "ray", "ray_current_cluster")
        last_started.parent.mkdir()
        with local_cluster(2, environment=environment) as own, local_cluster(1, dashboard=True) as other:
            last_started.write_text(own.address)
            driver = start(features, tmp_path, f"--cluster.address={own.address}", "--train.max_failures=0")
            wait_for_checkpoint(driver, tmp_path, "epoch-001")
            last_started.write_text(other.address)
            finish(driver, tmp_path)


@pytest.mark.long
def test_lost_and_interrupted_drivers_change_nothing(
    features: FeatureSet, uninterrupted: Path, tmp_path: Path, s3_server: S3Server
):
    """With checkpoints on S3. One driver is killed, one loses its lease, one is interrupted, the last one finishes."""
    output = f"s3://{s3_server.bucket}/runs"
    store = open_store(output)
    driver = start(features, tmp_path, MID_EPOCH, f"--train.output={output}")
    stored = re.compile(r"/step-00000[1-4]\d0-lease-000001/")
    wait_for(driver, tmp_path, lambda: any(stored.search(name) for name in store.objects()))
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    assert not any(f"/epoch-{EPOCHS:03d}-" in name for name in store.objects())
    (place,) = {name.split("/")[0] for name in store.objects()}
    lose_the_lease(features, tmp_path, output, place)
    interrupt(features, tmp_path, output, place)
    finish(start(features, tmp_path, f"--train.output={output}", "--resume"), tmp_path)
    for name in store.objects():
        path = tmp_path / "build" / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.read(name))
    assert_same(tmp_path, uninterrupted)
    kept = {name.split("/")[1].partition("-lease-")[0] for name in store.objects() if name.endswith("lineage.json")}
    _, metrics = result(tmp_path)
    best = max(reversed(metrics["val_rsum"]), key=lambda point: point[1])[0] // STEPS_PER_EPOCH  # of equals the last
    assert kept == {f"epoch-{best:03d}", f"epoch-{EPOCHS:03d}"}


def lose_the_lease(features: FeatureSet, folder: Path, output: str, place: str) -> None:
    """Resumes a training on S3 and acquires its lease while it runs: it ends and stores nothing more."""
    store = open_store(output)
    late = start(features, folder, f"--train.output={output}", "--resume")
    wait_for(late, folder, lambda: f"{place}/lease-000002.json" in store.objects())
    before = {name for name in store.objects() if name.endswith("progress.json")}
    assert open_run_directory(output, place).acquire_lease().token == 3
    said = finish(late, folder, code=2)
    assert f"error: {output}/{place}: lost the lease: another process resumed this run" in said
    assert {name for name in store.objects() if name.endswith("progress.json")} == before
    assert run_of(folder).info.status == "RUNNING"


def interrupt(features: FeatureSet, folder: Path, output: str, place: str) -> None:
    """Resumes a training on S3 and interrupts it, which saves a checkpoint."""
    store = open_store(output)
    interrupted = start(features, folder, f"--train.output={output}", "--resume")
    wait_for(interrupted, folder, lambda: any("-lease-000004/" in name for name in store.objects()))
    interrupted.send_signal(signal.SIGTERM)
    said = finish(interrupted, folder, code=143)
    message = (
        r"interrupted; checkpoint (step-\d{7}0-lease-000004) is saved; re-run the command with --resume to continue"
    )
    saved = re.search(message, said)
    assert saved, said
    assert f"{place}/{saved[1]}/progress.json" in store.objects()
    assert run_of(folder).info.status == "KILLED"


@pytest.mark.long  # tests/pipelines/training has the parts
def test_a_training_that_diverges_fails_at_once(features: FeatureSet, tmp_path: Path):
    """Ray Train would restart it three times from its last checkpoint."""
    more = ["--train.learning_rate=1e30", "--train.epochs=1", "--train.num_workers=1"]
    said = finish(start(features, tmp_path, *more), tmp_path, code=2)
    assert re.search(r"error: the training diverged at step \d+ \(epoch 1, batch \d+\): the loss is ", said), said
    assert run_of(tmp_path).info.status == "FAILED"
    assert list(tmp_path.glob("build/runs/shan-*/*/weights.safetensors")) == []


@pytest.mark.long
def test_a_killed_local_worker_resumes_within_its_epoch(features: FeatureSet, uninterrupted: Path, tmp_path: Path):
    driver = start(features, tmp_path, MID_EPOCH)
    wait_for_checkpoint(driver, tmp_path, "step-00000[1-4]?0")
    victims = train_workers(driver.pid)
    assert len(victims) == 2
    assert kill(victims[1])
    assert is_training(driver, tmp_path)
    finish(driver, tmp_path)
    assert_same(tmp_path, uninterrupted)


@pytest.mark.long
def test_resume_needs_a_run_directory_and_repeats_nothing(features: FeatureSet, uninterrupted: Path, tmp_path: Path):
    assert "there is no run to resume" in finish(start(features, tmp_path, "--resume"), tmp_path, code=2)
    said = finish(start(features, uninterrupted, "--resume"), uninterrupted)
    assert said.count("shan version 1") == 2
    assert "a run with this configuration has finished" in finish(start(features, uninterrupted), uninterrupted, code=2)


@pytest.mark.long
def test_an_elastic_training_continues_with_fewer_workers(
    features: FeatureSet, uninterrupted: Path, tmp_path: Path, two_nodes: LocalCluster
):
    """The batches stay the same, so the metrics equal those of two workers within rounding."""
    driver = start(
        features, tmp_path, MID_EPOCH, f"--cluster.address={two_nodes.address}", "--train.min_workers=1"
    )  # fmt: skip
    wait_for_checkpoint(driver, tmp_path, "step-00000[1-4]?0")
    assert is_training(driver, tmp_path)
    two_nodes.lose(two_nodes.nodes[0])
    finish(driver, tmp_path)
    history = tracking_of(tmp_path).client().get_metric_history(run_of(tmp_path).info.run_id, "num_workers")
    workers = [point.value for point in history]
    assert workers == sorted(workers, reverse=True)
    assert set(workers) == {2, 1}
    (_, metrics), (_, expected_metrics) = result(tmp_path), result(uninterrupted)
    assert [step for step, _ in metrics["loss"]] == [step for step, _ in expected_metrics["loss"]]
    losses, expected = ([value for _, value in each["loss"]] for each in (metrics, expected_metrics))
    # Rounding of the sums may change which negative is hardest, and the differences grow: 0.6 % at the end.
    assert losses == pytest.approx(expected, rel=2e-2)
