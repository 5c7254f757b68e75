"""Hyperparameter sweep: Ray Tune samples settings, ASHA stops the weaker trials, the best one is registered."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.canonical_json import count, require_fields, typed
from infra.cluster import require_dashboard
from infra.errors import StorageError, UserError
from infra.log import log
from infra.outages import after_outage, outage_as_warning
from infra.signals import when_interrupted
from infra.storage.process_folder import temporary_folder
from infra.tracking import Tracking
from infra.tracking_errors import TrackingError
from pipelines.features.feature_set import FeatureSet
from pipelines.features.mlflow_lineage import log_datasets, run_tags
from pipelines.models.detector_package import detector_package
from pipelines.models.selection import Selection, record_selection
from pipelines.reports.tables import Table
from pipelines.training.claim import DATASETS
from pipelines.training.driver import connect_cluster
from pipelines.training.identity import VERSION, changed_fields, directory_name, settings_identity
from pipelines.training.inputs import check_setup, require_dataset_of_model
from pipelines.training.run_directory import Lease, open_run, open_run_directory
from pipelines.training.setup import TrainingSetup
from pipelines.training.stored_progress import stored_progress
from pipelines.training.sweeps.config import SweepConfig
from pipelines.training.sweeps.space import check_space, parse_space, samples, space_identity, with_fields
from pipelines.training.train import TrainedModel, run_training

if TYPE_CHECKING:
    from ray.tune import ResultGrid

    from pipelines.training.sweeps.trial import SweepContext

AGAIN = "re-run the same command to continue"
"""What resumes a sweep: finished trials are kept, interrupted and failed ones continue."""


@dataclass(frozen=True)
class Trial:
    """Result of a trial."""

    values: dict[str, Any]
    """Sampled values by dotted field."""
    run_id: str
    best_rsum: float
    epochs: int


def run_sweep(
    features: FeatureSet,
    name: str,
    entries: Sequence[str],
    sweep: SweepConfig,
    setup: TrainingSetup,
    tracking: Tracking,
) -> tuple[list[Trial], TrainedModel]:
    """Runs all trials and registers the best one as a version of `name`. An interrupted sweep resumes.

    `entries` are those of `--space`. Returns the trials, best first, and the registered model. Raises UserError if an
    entry is invalid or no trial finishes an epoch, and LeaseLostError if another process resumes the sweep.
    """
    from pipelines.training.sweeps.trial import SweepContext

    space = parse_space(entries)
    sampled = _checked_samples(space, features, name, sweep, setup)
    identity = sweep_identity(features, space_identity(entries, space), sweep, setup)
    directory = open_run_directory(setup.train.output, directory_name(f"{name}-sweep", identity))
    if (result := directory.result(lambda document: _stored_result(document, list(space)))) is not None:
        return result
    _ = detector_package(features.index.detector, features.index.fingerprint, setup.register)  # raises early
    if (found := directory.run_id()) is not None:
        tracking.require_active_run(found)
    require_dataset_of_model(tracking, name, features.dataset)
    with temporary_folder("shan-sweep-") as folder:
        connect_cluster(setup, dashboard=True)
        require_dashboard("Ray Train asks whether a trial has ended, to free its CPUs")
        with after_outage(AGAIN), when_interrupted(AGAIN):
            lease = directory.acquire_lease()
            tags = run_tags(features) | {"run_directory": directory.uri}
            parent = open_run(lease, identity, tracking, lambda: tracking.create_run(f"{name} sweep", tags))
            with tracking.running(parent, lease.is_lost):
                _log_settings(tracking, parent, features, entries, sweep, setup.redacted())
                context = SweepContext(features.pinned_uri, name, setup, tracking, parent)
                trials, best = _run_trials(sampled, sweep, context, lease, folder)
    lease.require()
    if len(trials) == len(sampled):  # otherwise the same command tries the failed ones again
        directory.record_result({"trials": [asdict(trial) for trial in trials], "best": asdict(best)})
    return trials, best


def _checked_samples(
    space: dict[str, Any], features: FeatureSet, name: str, sweep: SweepConfig, setup: TrainingSetup
) -> list[dict[str, Any]]:
    """Returns the samples of a space. Raises UserError for one that cannot be trained. Warns if ASHA stops none."""
    sampled = samples(space, sweep.num_trials, sweep.seed)
    check_space(space, sampled, setup)
    train, width = features.captioned("train"), features.index.detector.feature_dim
    for values in sampled:
        check_setup(train, width, name, with_fields(setup, values))
    if sweep.grace_period_epochs >= setup.train.epochs:
        fields = f"sweep.grace_period_epochs is {sweep.grace_period_epochs} and train.epochs {setup.train.epochs}"
        log.warning("%s, so no trial is stopped early; lower the first", fields)
    return sampled


def _run_trials(
    sampled: list[dict[str, Any]], sweep: SweepConfig, context: "SweepContext", lease: Lease, folder: Path
) -> tuple[list[Trial], TrainedModel]:
    """Runs all trials, for which Tune writes into `folder`, and trains the best to its end. Warns of failed ones."""
    from pipelines.training.sweeps.tuning import tune_trials

    tracking, parent = context.tracking, context.parent
    try:
        grid = tune_trials(sampled, sweep, context, lease, folder)
    except KeyboardInterrupt:
        _kill_trials(tracking, parent, lease)
        raise
    lease.require()
    trials = _trials(grid)
    if not trials:
        raise _without_trials([str(error) for error in grid.errors])
    _complete_runs(context, [trial.run_id for trial in trials])
    tracking.client().log_text(parent, trials_table(trials).markdown() + "\n", "sweep.md")
    setup = with_fields(context.setup, trials[0].values)
    features = FeatureSet.open(context.features)
    best = run_training(features, context.name, setup, tracking, resume=None)
    lease.require()
    tracking.log_metrics(parent, best.metrics)
    tracking.client().set_tag(parent, "best_run", best.run_id)
    selection = Selection(parent, len(trials), "val", features.dataset)
    record_selection(tracking, context.name, best.version, selection)
    if grid.errors:
        log.warning("%d of %d trials failed; %s", len(grid.errors), len(sampled), AGAIN)
    return trials, best


def sweep_identity(
    features: FeatureSet, space: Sequence[str], sweep: SweepConfig, setup: TrainingSetup
) -> dict[str, Any]:
    """Returns what the result of a sweep depends on, as a JSON document. `space` is its identity, `space_identity`."""
    sampled = _sampled(space)
    settings = settings_identity(setup).items()
    return {
        "version": VERSION,
        "feature_set": features.index.feature_set,
        "space": list(space),
        "sweep": changed_fields("sweep", sweep, asdict(sweep)),
        **{part: {n: v for n, v in fields.items() if f"{part}.{n}" not in sampled} for part, fields in settings},
    }


def trials_table(trials: Sequence[Trial]) -> Table:
    """Returns a table with one row per trial, best first."""
    fields = list(trials[0].values)
    rows = [[*(f"{t.values[f]:.4g}" if isinstance(t.values[f], float) else str(t.values[f]) for f in fields),
             f"{t.best_rsum:.1f}", str(t.epochs), t.run_id] for t in trials]  # fmt: skip
    return Table("trials, best first", [*fields, "best validation rSum", "epochs", "run"], rows)


def _stored_result(document: dict[str, Any], fields: Sequence[str]) -> tuple[list[Trial], TrainedModel]:
    """Returns the trials and the registered model of a finished sweep. Raises KeyError, TypeError or ValueError."""
    trials = [_stored_trial(trial, fields) for trial in typed(document, "trials", list)]
    if not trials:
        raise ValueError("field 'trials' is empty")
    return trials, TrainedModel.parse(typed(document, "best", dict))


def _stored_trial(trial: dict[str, Any], fields: Sequence[str]) -> Trial:
    """Returns a trial with its values in the order of the space; stored JSON has sorted keys."""
    require_fields(trial, Trial)
    typed(trial, "run_id", str)
    typed(trial, "best_rsum", float)
    count(trial["epochs"], "epochs")
    return replace(Trial(**trial), values={field: trial["values"][field] for field in fields})


def _log_settings(
    tracking: Tracking,
    run_id: str,
    features: FeatureSet,
    entries: Sequence[str],
    sweep: SweepConfig,
    setup: TrainingSetup,
) -> None:
    if tracking.client().get_run(run_id).data.params:
        return  # logged by an earlier session
    log_datasets(tracking, run_id, features, DATASETS)
    params = {f"space.{number}": entry for number, entry in enumerate(entries)}
    params |= {f"sweep.{name}": value for name, value in asdict(sweep).items()}
    sampled = _sampled(entries)
    params |= {field: value for field, value in setup.flat().items() if field not in sampled}
    tracking.log_params(run_id, params)


def _sampled(entries: Sequence[str]) -> set[str]:
    """Returns the dotted fields of the entries of a space. No trial has the values that the settings give them."""
    return {entry.partition("=")[0] for entry in entries}


def _trials(grid: "ResultGrid") -> list[Trial]:
    """Returns the trials that did not fail, best first."""
    trials = [
        Trial(result.config["values"], metrics["run_id"], float(metrics["best"]), int(metrics["epoch"]))
        for result in grid
        if result.error is None and "run_id" in (metrics := result.metrics or {})
    ]
    return sorted(trials, key=lambda trial: -trial.best_rsum)


def _kill_trials(tracking: Tracking, parent: str, lease: Lease) -> None:
    """Sets the runs of the trials that an interrupt stops to KILLED; they resume with the sweep."""
    with outage_as_warning("the runs of the interrupted trials could not be set to KILLED"):
        if not lease.is_lost():
            client = tracking.client()
            of_sweep = f"attributes.status = 'RUNNING' and tags.`mlflow.parentRunId` = '{parent}'"
            for run in client.search_runs([tracking.experiment_id], of_sweep):
                client.set_terminated(run.info.run_id, "KILLED")


def _complete_runs(context: "SweepContext", run_ids: Sequence[str]) -> None:
    """Logs the metrics that did not reach MLflow because their sender was stopped with the trial, and ends the runs."""
    client = context.tracking.client()
    for run_id in run_ids:
        output, _, name = client.get_run(run_id).data.tags["run_directory"].rpartition("/")
        progress = stored_progress(open_run_directory(output, name))
        context.tracking.log_rows(run_id, progress.history)
        context.end_run(run_id, finished=progress.is_finished(context.setup.train))


def _without_trials(errors: Sequence[str]) -> UserError | StorageError:
    """Returns the error of a sweep in which no trial has finished an epoch, given the texts of its trials' errors.

    After an outage, the trials resume with the sweep; another error is one of the settings.
    """
    first = errors[0].strip().splitlines()[-1] if errors else "all were stopped"
    kind, _, reason = first.partition(": ")
    if kind in {f"{outage.__module__}.{outage.__name__}" for outage in (StorageError, TrackingError)}:
        return StorageError(f"no trial has finished an epoch ({reason})")
    return UserError(f"no trial has finished an epoch ({first}); try the settings with jobs.train")
