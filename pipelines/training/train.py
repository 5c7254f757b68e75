"""pipelines/training/train.py."""

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from infra.registry import register
from infra.system_metrics import system_metrics
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.models.package import package_model
from pipelines.training.checkpoint import read_progress
from pipelines.training.driver import PreparedTraining, fit, prepare
from pipelines.training.figures import log_pictures
from pipelines.training.run_directory import Seat
from pipelines.training.setup import TrainingSetup
from pipelines.training.validation_report import read_record
from shan_model.bundle import load_bundle, save_bundle

if TYPE_CHECKING:
    from ray.train import Result


@dataclass(frozen=True)
class TrainedModel:
    """What a training leaves: a run, a candidate version and its validation metrics."""

    run_id: str
    name: str
    version: int
    best_epoch: int
    metrics: dict[str, float]


def run_training(
    features: FeatureSet, name: str, setup: TrainingSetup, tracking: Tracking, resume: bool | None = False
) -> TrainedModel:
    """Trains on a feature set and registers the best epoch as a version of `name`; arguments as for `prepare`."""
    prepared = prepare(features, name, setup, tracking, resume)
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
    run_id, text_encoder = prepared.run_id, prepared.setup.model.text_encoder
    checkpoint, metrics = max(result.best_checkpoints, key=lambda pair: pair[1]["score"])
    with checkpoint.as_directory() as best, TemporaryDirectory() as bundle:
        save_bundle(load_bundle(Path(best)), Path(bundle))  # users need nothing of what training needs
        record = read_record(Path(best))
        packaged = package_model(Path(bundle), prepared.lineage, text_encoder)
        number = register(tracking, run_id, name, packaged, before_register=seat.require)
    with result.checkpoint.as_directory() as last:
        history = read_progress(Path(last)).history
    tracking.log_rows(run_id, history)
    log_pictures(tracking, run_id, prepared.features, record, history)
    recalls = {key: value for key, value in metrics.items() if key.startswith("val_")}
    return TrainedModel(run_id, name, number, metrics["epoch"], recalls)


def report(model: TrainedModel) -> str:
    """What was trained, in a few lines."""
    return (
        f"{model.name} version {model.version} (run {model.run_id}): best epoch {model.best_epoch}, "
        f"validation rSum {model.metrics['val_rsum']:.1f}"
    )
