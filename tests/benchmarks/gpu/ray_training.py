"""A short training by the user's command: `jobs.train` on a local Ray cluster, one process, `use_gpu`."""

from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from tests.benchmarks import commands
from tests.benchmarks.gpu.sizes import GpuSizes
from tests.benchmarks.inputs import feature_set
from tests.benchmarks.report import Benchmark, Measurement

MODEL = "gpu-benchmark"


def benchmarks(sizes: GpuSizes, device: str) -> list[Benchmark]:
    """The benchmark of this file."""
    return [Benchmark("training through Ray Train", lambda: ray_training(sizes, device))]


def ray_training(sizes: GpuSizes, device: str) -> Iterator[Measurement]:
    """Throughput, data-loading time fraction and memory of one epoch, as the run's metrics state them."""
    import mlflow
    import ray  # noqa: F401 - skipped where it is not installed

    with TemporaryDirectory() as name:
        folder = Path(name)
        photos = {"train": sizes.ray_photos, "val": max(2, sizes.ray_photos // 10)}
        features = feature_set(folder, photos, 100, sizes)
        uri = f"sqlite:///{folder}/mlflow.db"
        _train(sizes, features.uri, uri, folder, use_gpu=device != "cpu")
        client = mlflow.MlflowClient(uri)
        (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
        metrics = {
            key: [point.value for point in client.get_metric_history(run.info.run_id, key)]
            for key in ("captions_per_s", "data_wait_fraction", "memory_gb")
        }
    throughput = metrics["captions_per_s"]
    what = f"training through Ray Train, batch {sizes.batch_size}, bf16"
    yield Measurement(what, max(throughput), "captions/s", "mean of its epoch", mean(throughput))
    yield Measurement(f"{what}: data-loading time fraction", 100 * mean(metrics["data_wait_fraction"]), "%")
    yield Measurement(f"{what}: peak memory", max(metrics["memory_gb"]) / 1.073741824, "GiB")


def _train(sizes: GpuSizes, features: str, tracking: str, folder: Path, use_gpu: bool) -> None:
    options = {
        "features": features,
        "name": MODEL,
        "model.joint_dim": sizes.joint_dim,
        "model.region_dim": sizes.feature_dim,
        "train.epochs": 1,
        "train.hard_negative_warmup_epochs": 0,
        "train.batch_size": sizes.batch_size,
        "train.precision": "bf16",
        "train.num_workers": 1,
        "train.use_gpu": str(use_gpu).lower(),
        "train.output": folder / "runs",
        "tracking.uri": tracking,
        "cluster.local_object_store_mb": 100,
    }
    commands.run_command(folder, "jobs.train", *(f"--{name}={value}" for name, value in options.items()))
