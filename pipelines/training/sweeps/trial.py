"""One trial of a sweep, in an actor of Tune: a training that tells Tune of every epoch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.train import Checkpoint
from ray.tune.integration.ray_train import TuneReportCallback

from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.training.driver import fit, prepare, stored_progress
from pipelines.training.setup import TrainingSetup
from pipelines.training.sweeps.space import with_fields

STOPPED_BY = "sweep.stopped_by"
"""Tag of a trial's run: the run of the sweep that stopped it."""


@dataclass(frozen=True)
class Base:
    """What all trials share."""

    features: str
    name: str
    setup: TrainingSetup
    tracking: Tracking
    parent: str


def run_trial(drawn: dict[str, Any], base: Base) -> None:
    """Trains from the last checkpoint of the drawn `values`, or from the start, to the end or until Tune stops it.

    What Ray Train leaves to free the CPUs of a stopped trial looks for the cluster in its environment, and gives up
    where a second Ray runs on the machine; a task of its own has the address, and hands it on to all it starts.
    """
    here = {"env_vars": {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}}
    training = ray.remote(train_trial).options(num_cpus=0, runtime_env=here, max_retries=0, num_returns="streaming")
    for told in training.remote(drawn["values"], base, EpochsToTune()):
        tune.report(ray.get(told))


def train_trial(values: dict[str, Any], base: Base, epochs: "EpochsToTune") -> Iterator[dict[str, Any]]:
    """The training of a trial. Yields what Tune is to know of the epochs of earlier sessions, and of the end.

    What this sweep stopped in an earlier session stays where it is; what another one stopped goes on. Whoever runs the
    sweep ends a run that does not.
    """
    features, client = FeatureSet.open(base.features), base.tracking.client()
    setup = with_fields(base.setup, values)
    prepared = prepare(features, base.name, setup, base.tracking, resume=None, parent=base.parent)
    epochs.run_id = run_id = prepared.run_id
    progress = stored_progress(prepared.place)
    for epoch, score in progress.validations():
        yield {"score": score, "best": progress.best_rsum, "epoch": epoch, "run_id": run_id}
    if client.get_run(run_id).data.tags.get(STOPPED_BY) == base.parent:
        return
    if not progress.finished(setup.train):
        client.update_run(run_id, status="RUNNING")
        fit(prepared, base.tracking, [epochs])
        progress = stored_progress(prepared.place)
    base.tracking.log_rows(run_id, progress.history)
    client.set_terminated(run_id)
    yield {"score": progress.best_rsum, "best": progress.best_rsum, "epoch": progress.validated, "run_id": run_id}


class EpochsToTune(TuneReportCallback):
    """Checkpoints within an epoch are no news to Tune."""

    run_id = ""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Validation rSum of an epoch."""
        if "epoch" in metrics[0]:
            told = {key: metrics[0][key] for key in ("score", "best", "epoch")}
            super().after_report(run_context, [told | {"run_id": self.run_id}], checkpoint)
