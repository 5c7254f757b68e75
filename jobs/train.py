"""A feature set to a trained model and a registered candidate version.

    python -m jobs.train --features /data/features/flickr30k-0123456789ab --name shan-flickr30k --preset flickr30k

The driver makes the MLflow run and hands its id on; workers train (jobs/train_worker.py); metrics reach MLflow from
Ray Train's controller after every epoch. The best epoch by validation rSum becomes a version; `jobs.promote` decides
whether users get it.
"""

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import infra.tracking
from infra.registry import PyfuncPackage, register
from infra.system_metrics import system_metrics
from infra.tracking import Tracking
from jobs import cli
from jobs.config import Config
from jobs.load import BUNDLE
from jobs.train_pictures import log_pictures
from jobs.train_run import PreparedTraining, fit, prepare
from jobs.train_state import read_progress
from jobs.training import Seat
from jobs.validation_record import read_record
from pipelines.feature_set import FeatureSet
from shan_model.bundle import load_bundle, save_bundle

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from ray.train import Result

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class TrainedModel:
    """What a training leaves: a run, a candidate version and its validation metrics."""

    run_id: str
    name: str
    version: int
    best_epoch: int
    metrics: dict[str, float]


def run_training(
    features: FeatureSet, name: str, config: Config, tracking: Tracking, resume: bool | None = False
) -> TrainedModel:
    """Trains on a feature set and registers the best epoch as a version of `name`; arguments as for `prepare`."""
    prepared = prepare(features, name, config, tracking, resume)
    if (finished := prepared.place.finished()) is not None:
        return TrainedModel(**finished)
    with tracking.running(prepared.run_id):
        # Each node tells of itself to a server; a file is written from here.
        with system_metrics(tracking, prepared.run_id) if tracking.is_file else nullcontext():
            result, seat = fit(prepared, tracking)
        trained = _register_best(prepared, result, name, tracking, seat)
        seat.require()
        prepared.place.finish(asdict(trained))
    return trained


def _register_best(
    prepared: PreparedTraining, result: "Result", name: str, tracking: Tracking, seat: Seat
) -> TrainedModel:
    """Also brings what is still missing to the run: points of the curves that did not get through, and pictures."""
    run_id, text_encoder = prepared.run_id, prepared.config.model.text_encoder
    checkpoint, metrics = max(result.best_checkpoints, key=lambda pair: pair[1]["score"])
    with checkpoint.as_directory() as best, TemporaryDirectory() as bundle:
        save_bundle(load_bundle(Path(best)), Path(bundle))  # users need nothing of what training needs
        record = read_record(Path(best))
        package = _package(Path(bundle), prepared.lineage, text_encoder)
        number = register(tracking, run_id, name, package, at_last=seat.require)
    with result.checkpoint.as_directory() as last:
        history = read_progress(Path(last)).history
    tracking.log_rows(run_id, history)
    log_pictures(tracking, run_id, prepared.features, record, history)
    recalls = {key: value for key, value in metrics.items() if key.startswith("val_")}
    return TrainedModel(run_id, name, number, metrics["epoch"], recalls)


def _package(bundle: Path, lineage: dict[str, str], text_encoder: str) -> PyfuncPackage:
    return PyfuncPackage(
        code=ROOT / "jobs" / "registered_model.py",
        package=ROOT / "shan_model",
        artifacts={BUNDLE: bundle},
        signature=_signature(),
        requirements=_requirements(text_encoder),
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


def _requirements(text_encoder: str) -> list[str]:
    """What loads a registered model, at the versions it was trained with (without torch's build tag)."""
    packages = [
        "mlflow",
        "numpy",
        "pandas",
        "safetensors",
        "torch",
        *(["transformers"] if text_encoder == "hf" else []),
    ]
    return [f"{package}=={version(package).split('+')[0]}" for package in packages]


def report(model: TrainedModel) -> str:
    """What was trained, in a few lines."""
    return (
        f"{model.name} version {model.version} (run {model.run_id}): best epoch {model.best_epoch}, "
        f"validation rSum {model.metrics['val_rsum']:.1f}"
    )


def _arguments(parser: Any) -> None:
    parser.add_argument("--features", type=str, required=True, help="URI of a feature set")
    parser.add_argument("--name", type=str, required=True, help="registered model that gets the new version")
    parser.add_argument("--resume", action="store_true", help="go on with the training that the same command began")


def main() -> None:
    """Command line."""
    arguments, config = cli.parse(
        "train",
        "A feature set to a registered candidate.",
        _arguments,
        ("model", "train", "cache", "tracking", "cluster"),
    )
    features = FeatureSet.open(arguments.features)
    tracking = infra.tracking.connect(config.tracking)
    print(report(run_training(features, arguments.name, config, tracking, arguments.resume)))


if __name__ == "__main__":
    cli.run(main)
