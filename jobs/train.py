"""A feature set to a trained model and a registered candidate version.

    python -m jobs.train --features /data/features/flickr30k-0123456789ab --name shan-flickr30k --preset flickr30k

The driver makes the MLflow run and hands its id on; workers train (jobs/train_worker.py); metrics reach MLflow from
Ray Train's controller after every epoch. The best epoch by validation rSum becomes a version; `jobs.promote` decides
whether users get it.
"""

import re
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import infra.cluster
import infra.tracking
from infra.errors import UserError
from infra.progress import worker_bar
from infra.registry import PyfuncPackage, register
from infra.store import require_folder
from infra.tracking import Tracking
from jobs import cli
from jobs.config import Config
from pipelines.feature_set import FeatureSet

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class TrainedModel:
    """What a training leaves: a run, a candidate version and its validation metrics."""

    run_id: str
    name: str
    version: int
    best_epoch: int
    metrics: dict[str, float]


def run_training(features: FeatureSet, name: str, config: Config, tracking: Tracking) -> TrainedModel:
    """Trains on a feature set and registers the best epoch as a version of `name`. UserError if the widths differ."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UserError(f"'{name}' is no name for a registered model; use letters, digits, '-', '_' and '.'")
    require_folder(config.train.output, "train.output")
    width = features.index["detector"]["feature_dim"]
    if width != config.model.region_dim:
        raise UserError(f"{features.uri} has features of width {width}; set model.region_dim to {width}")
    for split in ("train", "val"):
        features.split(split)
    infra.cluster.connect(config.cluster)
    tags = {**{f"lineage.{k}": v for k, v in features.lineage.items()}, "features": features.uri}
    with tracking.run(name, tags) as run_id:
        _log_config(tracking, run_id, config)
        best_epoch, metrics, bundle = _fit(features, config, tracking, run_id)
        package = _package(bundle, {**features.lineage, "run": run_id, "dataset": features.dataset})
        number = register(tracking, run_id, name, package)
        _log_curves(tracking, run_id)
    return TrainedModel(run_id, name, number, best_epoch, metrics)


def _fit(features: FeatureSet, config: Config, tracking: Tracking, run_id: str) -> tuple[int, dict[str, float], Path]:
    """Runs Ray Train; best epoch, its metrics, and the folder of its bundle."""
    from ray.train import CheckpointConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from jobs.train_metrics import MlflowMetrics
    from jobs.train_worker import TrainJob, steps_per_epoch, train_loop

    steps = config.train.epochs * steps_per_epoch(len(features.split("train").captions), config.train)
    with worker_bar("train", steps, "step") as bar:
        trainer = TorchTrainer(
            train_loop,
            train_loop_config={"job": TrainJob(features.uri, config.model, config.train, bar)},
            scaling_config=ScalingConfig(num_workers=config.train.workers, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(
                # A name that was used before would resume, or train nothing and report success: a run id never repeats.
                name=run_id,
                storage_path=str(Path(config.train.output).absolute()),
                checkpoint_config=CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="val_rsum"),
                logging_config=LoggingConfig(log_level="WARNING"),
                callbacks=[MlflowMetrics(tracking, run_id)],
            ),
        )
        result = trainer.fit()
    checkpoint, metrics = max(result.best_checkpoints, key=lambda pair: pair[1]["val_rsum"])
    numbers = {key: float(value) for key, value in metrics.items() if isinstance(value, int | float)}
    return int(metrics["epoch"]), numbers, Path(checkpoint.path)


def _log_config(tracking: Tracking, run_id: str, config: Config) -> None:
    tracking.log_params(run_id, config.flat())
    tracking.client().log_dict(run_id, asdict(config), "config.yaml")


def _package(bundle: Path, lineage: dict[str, str]) -> PyfuncPackage:
    return PyfuncPackage(
        code=ROOT / "jobs" / "registered_model.py",
        package=ROOT / "shan_model",
        artifacts={"bundle": bundle},
        signature=_signature(),
        requirements=_requirements(),
        metadata=lineage,
    )


def _signature() -> "ModelSignature":
    """Rows of `regions` (R x F) and `caption` in, one score a row out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import Array, DataType

    regions = ColSpec(Array(Array(DataType.double)), "regions")  # takes float32 as well
    return ModelSignature(
        inputs=Schema([regions, ColSpec(DataType.string, "caption")]), outputs=Schema([ColSpec(DataType.double)])
    )


def _requirements() -> list[str]:
    """What loads a registered model, at the versions it was trained with (without torch's build tag)."""
    packages = ("mlflow", "numpy", "pandas", "safetensors", "torch")
    return [f"{package}=={version(package).split('+')[0]}" for package in packages]


def _log_curves(tracking: Tracking, run_id: str) -> None:
    """A picture of loss by step and validation rSum by epoch, in the run's artifacts."""
    from matplotlib.figure import Figure

    client = tracking.client()
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, (metric, label) in zip(
        figure.subplots(1, 2), (("loss", "loss a batch"), ("val_rsum", "validation rSum")), strict=True
    ):
        points = client.get_metric_history(run_id, metric)
        axes.plot([p.step for p in points], [p.value for p in points], marker="." if len(points) < 50 else "")
        axes.set(xlabel="step", ylabel=label)
        axes.grid(alpha=0.3)
    client.log_figure(run_id, figure, "curves.png")


def report(model: TrainedModel) -> str:
    """What was trained, in a few lines."""
    return (
        f"{model.name} version {model.version} (run {model.run_id}): best epoch {model.best_epoch}, "
        f"validation rSum {model.metrics['val_rsum']:.1f}"
    )


def _arguments(parser: Any) -> None:
    parser.add_argument("--features", type=str, required=True, help="URI of a feature set")
    parser.add_argument("--name", type=str, required=True, help="registered model that gets the new version")


def main() -> None:
    """Command line."""
    arguments, config = cli.parse(
        "train", "A feature set to a registered candidate.", _arguments, ("model", "train", "tracking", "cluster")
    )
    features = FeatureSet.open(arguments.features)
    tracking = infra.tracking.connect(config.tracking)
    print(report(run_training(features, arguments.name, config, tracking)))


if __name__ == "__main__":
    cli.run(main)
