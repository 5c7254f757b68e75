"""Trains a model on a feature set and registers its best epoch as a version."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from infra.canonical_json import count, require_fields, typed
from infra.errors import StorageError, UserError
from infra.model_artifacts import register
from infra.outages import after_outage
from infra.redaction import redact
from infra.registry import annotate, find_version
from infra.signals import when_interrupted
from infra.storage.disk import names_full_disk, tmpdir
from infra.storage.process_folder import temporary_folder
from infra.system_metrics import system_metrics
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.features.split import Split
from pipelines.models.detector_package import DetectorPackage, detector_package
from pipelines.models.model_card import model_card
from pipelines.models.package import package_model
from pipelines.reports.tables import Table
from pipelines.training.checkpoint import read_progress, read_validation
from pipelines.training.claim import ClaimedTraining, check_resume, claim_training
from pipelines.training.driver import connect_cluster, fit
from pipelines.training.figures import log_figures
from pipelines.training.inputs import require_dataset_of_model, resolve_inputs
from pipelines.training.run_directory import RunDirectory
from pipelines.training.setup import TrainingSetup
from pipelines.training.step_gauge import step_gauge
from shan_model.bundle import load_bundle, save_bundle
from shan_model.metrics import random_recalls

if TYPE_CHECKING:
    from ray.train import Checkpoint, Result


@dataclass(frozen=True)
class TrainedModel:
    """Result of a training: its run, the registered version and the validation metrics of the best epoch."""

    run_id: str
    name: str
    version: int
    best_epoch: int
    metrics: dict[str, float]

    @classmethod
    def parse(cls, document: dict[str, Any]) -> "TrainedModel":
        """Returns the model of a JSON document. Raises ValueError for one that `asdict` does not give."""
        require_fields(document, cls)
        for name in ("run_id", "name"):
            typed(document, name, str)
        for name in ("version", "best_epoch"):
            count(document[name], name)
        if type(typed(document, "metrics", dict).get("val_rsum")) is not float:
            raise ValueError("field 'metrics' has no val_rsum")
        return cls(**document)


def run_training(
    features: FeatureSet, name: str, setup: TrainingSetup, tracking: Tracking, resume: bool | None = False
) -> TrainedModel:
    """Trains on a feature set and registers the epoch with the best validation rSum as a version of `name`.

    `resume` is that of `check_resume`; the errors are its own and those of `detector_package`, `connect_cluster`,
    `claim_training` and `fit`. A finished training returns its stored result without a cluster.
    """
    inputs = resolve_inputs(features, name, setup)
    if resume is not False and (result := finished_training(inputs.directory, tracking)) is not None:
        return result
    require_dataset_of_model(tracking, name, features.dataset)
    check_resume(inputs.directory, resume)
    detector = detector_package(features.index.detector, features.index.fingerprint, setup.register)
    connect_cluster(setup)
    again = f"re-run the {'same command' if resume is None else 'command with --resume'} to continue"
    with after_outage("re-run the same command, with --resume if the run exists" if resume is False else again):
        training = claim_training(inputs, tracking, resume)
    with after_outage(again), when_interrupted(again), tracking.running(training.run_id, training.lease.is_lost):
        trained = _train(training, detector, tracking)
    training.lease.require()
    inputs.directory.record_result(asdict(trained))
    return trained


def finished_training(directory: RunDirectory, tracking: Tracking | None) -> TrainedModel | None:
    """Returns the stored result of a training; None if it has not finished.

    Raises UserError if the tracking store, None if it does not exist, does not have its run or its version: it finished
    with another store, or they were deleted.
    """
    result = directory.result(TrainedModel.parse)
    if result is None:
        return None
    finished = f"the training in {directory.uri} has finished"
    if tracking is None:
        raise UserError(
            f"{finished}, but no tracking store exists; set tracking.uri to the one that has run {result.run_id}, or "
            "delete that folder"
        )
    try:
        tracking.require_active_run(result.run_id)
        find_version(tracking, f"models:/{result.name}/{result.version}")
    except UserError as error:
        raise UserError(f"{finished}, but {error}; or delete that folder") from error
    return result


def _train(training: ClaimedTraining, detector: DetectorPackage, tracking: Tracking) -> TrainedModel:
    """Trains to the end and registers the best epoch."""
    # With a tracking server, the workers log the metrics of their nodes; a file is written from here only.
    with step_gauge(training.run_id) as on_steps:
        with system_metrics(tracking, training.run_id) if tracking.is_file else nullcontext():
            fitted = fit(training, tracking, on_steps)
        with names_full_disk(f"{tmpdir()} or tracking.uri {redact(tracking.uri)}"):
            return _publish(training, fitted, detector, tracking)


def _publish(
    training: ClaimedTraining, fitted: "Result", detector: DetectorPackage, tracking: Tracking
) -> TrainedModel:
    """Registers the best epoch, and logs its figures and the metrics that did not reach MLflow before."""
    inputs, run_id = training.inputs, training.run_id
    checkpoint, metrics = max(fitted.best_checkpoints, key=lambda pair: pair[1]["score"])
    with _downloaded(checkpoint) as best, temporary_folder("shan-register-") as temporary:
        bundle, parts, shan = temporary / "bundle", temporary / "parts", load_bundle(best)
        save_bundle(shan, bundle)  # without the state of the optimizer
        validation = read_validation(best)
        packaged = package_model(bundle, shan.config, training.lineage, detector, parts)
        version = register(tracking, run_id, inputs.name, packaged, before_register=training.lease.require)
    validated = {key: value for key, value in metrics.items() if key.startswith("val_")}
    intervals = validation.get("intervals", {})  # checkpoints of early 0.2 have none
    results = _results(inputs.features.captioned("val"), metrics["epoch"], validated, intervals)
    card = model_card(inputs.name, version, shan, packaged.metadata, inputs.features, results)
    annotate(tracking, inputs.name, version, {}, card)
    with _downloaded(fitted.checkpoint) as last:
        history = read_progress(last).history
    # A driver that was killed may have left a checkpoint that Ray Train does not list.
    kept = {PurePosixPath(each.path).name for each in (checkpoint, fitted.checkpoint)}
    inputs.directory.delete_checkpoints(kept.__contains__)
    tracking.log_rows(run_id, history)
    log_figures(tracking, run_id, inputs.features, validation, history)
    return TrainedModel(run_id, inputs.name, version, metrics["epoch"], validated)


def _results(
    val: Split, epoch: int, validated: dict[str, float], intervals: Mapping[str, Sequence[float]]
) -> list[str]:
    """Returns the results of the best epoch for the model card, until a promotion adds a comparison."""
    random = random_recalls(val.photo_of_caption).as_metrics()
    recalls = {name: f"{validated[f'val_{name}']:.1f}" for name in random}
    recalls |= {name: f"{recalls[name]} ({low:.1f} to {high:.1f})" for name, (low, high) in intervals.items()}
    rows = [
        [f"epoch {epoch}", *recalls.values()],
        ["random baseline", *(f"{value:.1f}" for value in random.values())],
    ]
    names = [name.replace("_to_", "-to-").replace("_r", " R@").replace("rsum", "rSum") for name in random]
    title = f"val: {len(val):,} photos, {len(val.captions):,} captions"
    return [
        "Not compared with a champion yet: `jobs.promote` does that."
        + (" In parentheses: 95 % bootstrap intervals over the photos." if intervals else ""),
        Table(title, ["", *names], rows).markdown(),
    ]


@contextmanager
def _downloaded(checkpoint: "Checkpoint") -> Iterator[Path]:
    """Yields a local folder with the files of a checkpoint. Raises StorageError if its store fails."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(checkpoint.as_directory())
        except OSError as error:
            raise StorageError(f"{checkpoint.path}: {' '.join(str(error).split())}") from error
        yield Path(folder)


def training_summary(model: TrainedModel) -> str:
    """Returns one line about a trained model."""
    return (
        f"{model.name} version {model.version} (run {model.run_id}): best epoch {model.best_epoch}, "
        f"validation rSum {model.metrics['val_rsum']:.1f}"
    )
