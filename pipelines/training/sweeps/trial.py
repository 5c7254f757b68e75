"""One trial of a sweep: a training that reports every epoch to Ray Tune."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.train import Checkpoint
from ray.tune.integration.ray_train import TuneReportCallback

import infra.cluster
from infra.outages import outage_as_warning
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.training.claim import claim_training
from pipelines.training.driver import fit
from pipelines.training.inputs import resolve_inputs
from pipelines.training.setup import TrainingSetup
from pipelines.training.step_gauge import step_gauge
from pipelines.training.stored_progress import stored_progress
from pipelines.training.sweeps.space import with_fields

STOPPED_BY = "sweep.stopped_by"
"""Tag of a trial's run: the run of the sweep that stopped it."""


@dataclass(frozen=True)
class SweepContext:
    """What all trials of a sweep share."""

    features: str
    """URI of the feature set, with its digest."""
    name: str
    """Name of the registered model."""
    setup: TrainingSetup
    tracking: Tracking
    parent: str
    """MLflow run of the sweep."""

    def end_run(self, run_id: str, finished: bool) -> None:
        """Ends the MLflow run of a trial, which is stopped unless it has finished.

        The status may be FAILED or KILLED already: Ray ends the processes of a stopped trial in any order, and an
        earlier session may have been interrupted.
        """
        client = self.tracking.client()
        if client.get_run(run_id).info.status == "FINISHED":
            return
        if not finished:
            client.set_tag(run_id, STOPPED_BY, self.parent)
        client.set_terminated(run_id, "FINISHED" if finished else "KILLED")


def run_trial(config: dict[str, Any], sweep: SweepContext) -> None:
    """Trains with the sampled `config["values"]`, from their last checkpoint if there is one, until Tune stops it.

    The training runs in a task with RAY_ADDRESS set: Ray Train frees the CPUs of a stopped trial from a process that
    finds the cluster by its environment, which fails if a second Ray cluster runs on the machine.
    """
    environment = {"env_vars": {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}}
    task = ray.remote(train_trial).options(num_cpus=0, runtime_env=environment, max_retries=0, num_returns="streaming")
    for metrics in task.remote(config["values"], sweep, EpochReporter()):
        tune.report(ray.get(metrics))


def train_trial(values: dict[str, Any], sweep: SweepContext, reporter: "EpochReporter") -> Iterator[dict[str, Any]]:
    """Trains a trial. Yields Tune's metrics for the epochs of earlier sessions, and at the end.

    A trial that this sweep has stopped in an earlier session stays stopped; one that another sweep has stopped resumes.
    The driver of the sweep ends the MLflow runs of trials that are stopped, and those that this process could not end.
    """
    features, client = FeatureSet.open(sweep.features), sweep.tracking.client()
    setup = with_fields(sweep.setup, values)
    inputs = resolve_inputs(features, sweep.name, setup)
    infra.cluster.connect(setup.cluster)
    is_resumed = inputs.directory.run_id() is not None
    training = claim_training(inputs, sweep.tracking, resume=None, parent=sweep.parent)
    reporter.run_id = run_id = training.run_id
    progress = stored_progress(inputs.directory)
    for epoch, score in progress.validations():
        yield {"score": score, "best": progress.best_rsum, "epoch": epoch, "run_id": run_id}
    if client.get_run(run_id).data.tags.get(STOPPED_BY) == sweep.parent:
        return
    if not progress.is_finished(setup.train):
        if is_resumed:  # a new run has that status, unless the sweep was interrupted meanwhile
            client.update_run(run_id, status="RUNNING")
        with sweep.tracking.closing(run_id, training.lease.is_lost), step_gauge(run_id) as on_steps:
            fit(training, sweep.tracking, on_steps, [reporter])
        progress = stored_progress(inputs.directory)
    if progress.is_finished(setup.train):
        with outage_as_warning(f"run {run_id} is completed at the end of the sweep"):
            sweep.tracking.log_rows(run_id, progress.history)
            client.set_terminated(run_id)
    yield {"score": progress.best_rsum, "best": progress.best_rsum, "epoch": progress.validated, "run_id": run_id}


class EpochReporter(TuneReportCallback):
    """Reports the validation rSum of each epoch to Tune, but not the checkpoints within an epoch."""

    run_id = ""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Called by Ray Train after each report of the workers."""
        if "epoch" in metrics[0]:
            reported = {key: metrics[0][key] for key in ("score", "best", "epoch")}
            super().after_report(run_context, [reported | {"run_id": self.run_id}], checkpoint)
