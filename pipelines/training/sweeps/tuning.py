"""Runs the trials of a sweep with Ray Tune and ASHA (Li et al., MLSys 2020)."""

import os
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator
from tqdm import tqdm

from pipelines.training.config import TrainConfig
from pipelines.training.run_directory import Lease
from pipelines.training.sweeps.config import SweepConfig
from pipelines.training.sweeps.space import samples
from pipelines.training.sweeps.trial import STOPPED_BY, SweepContext, run_trial

TRIAL_CPUS = 0.01
"""Logical CPUs of a trial: it only waits for its training, but Tune requires a resource."""
LEASE_CHECK_S = 5.0
"""Seconds between checks of the lease."""


def tune_trials(space: dict[str, Any], sweep: SweepConfig, context: SweepContext, lease: Lease) -> tune.ResultGrid:
    """Runs all trials to their end, or until ASHA stops them. Raises LeaseLostError if the lease is lost."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Tune's own handler would make an interrupted sweep look finished
    epochs = context.setup.train.epochs
    asha = ASHAScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=min(sweep.grace_period_epochs, epochs),
        reduction_factor=sweep.reduction_factor,
    )
    with tqdm(desc="sweep", unit="trial") as bar:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_trial, sweep=context), {"CPU": TRIAL_CPUS}),
            param_space={"values": tune.grid_search(samples(space, sweep.num_trials, sweep.seed))},
            tune_config=tune.TuneConfig(
                metric="score",
                mode="max",
                scheduler=asha,
                search_alg=BasicVariantGenerator(max_concurrent=_concurrent_trials(context.setup.train)),
            ),
            run_config=tune.RunConfig(
                name=f"{context.parent}-{lease.token}",
                storage_path=str(Path("build/sweeps").absolute()),
                verbose=0,
                callbacks=[SweepCallback(bar, context, lease)],
            ),
        )
        return tuner.fit()


def _concurrent_trials(train: TrainConfig) -> int:
    """Returns how many trainings fit on the cluster at once, at least 1."""
    resources = ray.cluster_resources()
    trials = resources.get("CPU", 0) // (train.num_workers * train.cpus_per_worker + TRIAL_CPUS)
    if train.use_gpu:
        trials = min(trials, resources.get("GPU", 0) // train.num_workers)
    return max(1, int(trials))


class SweepCallback(tune.Callback):
    """Moves the progress bar, ends the MLflow runs of trials that ASHA stops, and checks the lease."""

    def __init__(self, bar: "tqdm[Any]", context: SweepContext, lease: Lease) -> None:
        self._bar, self._context, self._lease = bar, context, lease
        self._checked = 0.0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        """Called by Tune many times per second."""
        if time.monotonic() > self._checked + LEASE_CHECK_S:
            self._checked = time.monotonic()
            self._lease.require()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Called by Tune when a trial has finished or was stopped."""
        self._bar.total = len(trials)
        self._bar.set_postfix_str(f"last rSum {trial.last_result.get('score', float('nan')):.1f}", refresh=False)
        self._bar.update()
        if run_id := trial.last_result.get("run_id"):
            client = self._context.tracking.client()
            if client.get_run(run_id).info.status != "RUNNING":
                return
            if trial.last_result["epoch"] < self._context.setup.train.epochs:
                client.set_tag(run_id, STOPPED_BY, self._context.parent)
                client.set_terminated(run_id, "KILLED")
            else:
                client.set_terminated(run_id)
