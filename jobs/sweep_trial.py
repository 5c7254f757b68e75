"""One trial of a sweep, in an actor of Tune: a training that tells Tune of every epoch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.train import Checkpoint
from ray.tune.integration.ray_train import TuneReportCallback

from infra.tracking import Tracking
from jobs.config import Config
from jobs.sweep_space import with_fields
from jobs.train_run import fit, prepare
from jobs.train_state import read_progress
from pipelines.feature_set import FeatureSet


@dataclass(frozen=True)
class Base:
    """What all trials share."""

    features: str
    name: str
    config: Config
    tracking: Tracking
    parent: str


def run_trial(drawn: dict[str, Any], base: Base) -> None:
    """Trains from the last checkpoint of the drawn `values`, or from the start, to the end or until Tune stops it.

    What Ray Train leaves to free the CPUs of a stopped trial looks for the cluster in its environment, and gives up
    where a second Ray runs on the machine; a task of its own has the address, and hands it on to all it starts.
    """
    here = {"env_vars": {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}}
    training = ray.remote(train_trial).options(num_cpus=0, runtime_env=here, max_retries=0)
    tune.report(ray.get(training.remote(drawn["values"], base, EpochsToTune())))


def train_trial(values: dict[str, Any], base: Base, epochs: "EpochsToTune") -> dict[str, Any]:
    """The training of a trial; what Tune is told of it in the end. Whoever runs the sweep ends a run that does not."""
    features = FeatureSet.open(base.features)
    prepared = prepare(
        features, base.name, with_fields(base.config, values), base.tracking, resume=None, parent=base.parent
    )
    epochs.run_id = prepared.run_id
    client = base.tracking.client()
    client.update_run(prepared.run_id, status="RUNNING")
    result = fit(prepared, base.tracking, [epochs])
    # What was trained before this sweep reports nothing anew.
    with result.checkpoint.as_directory() as folder:
        progress = read_progress(Path(folder))
    base.tracking.log_rows(prepared.run_id, progress.history)
    client.set_terminated(prepared.run_id)
    best = progress.best_rsum
    return {"score": best, "best": best, "epoch": progress.validated, "run_id": prepared.run_id}


class EpochsToTune(TuneReportCallback):
    """Checkpoints within an epoch are no news to Tune."""

    run_id = ""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Validation rSum of an epoch."""
        if "epoch" in metrics[0]:
            told = {key: metrics[0][key] for key in ("score", "best", "epoch")}
            super().after_report(run_context, [told | {"run_id": self.run_id}], checkpoint)
