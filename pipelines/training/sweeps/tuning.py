"""Runs the trials of a sweep with Ray Tune and ASHA (Li et al., MLSys 2020)."""

import os
import time
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator
from tqdm import tqdm

from infra.cluster_resources import may_scale, placeable
from pipelines.training.config import TrainConfig
from pipelines.training.driver import worker_resources
from pipelines.training.run_directory import Lease
from pipelines.training.sweeps.config import TRIAL_CPUS, SweepConfig
from pipelines.training.sweeps.space import samples
from pipelines.training.sweeps.trial import STOPPED_BY, SweepContext, run_trial

CHECK_S = 5.0
"""Seconds between checks of the lease and of the cluster's size."""


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
    trials = samples(space, sweep.num_trials, sweep.seed)
    search = BasicVariantGenerator(max_concurrent=_concurrent_trials(context.setup.train, len(trials)))
    with tqdm(desc="sweep", unit="trial", total=len(trials)) as bar:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_trial, sweep=context), {"CPU": TRIAL_CPUS}),
            param_space={"values": tune.grid_search(trials)},
            tune_config=tune.TuneConfig(metric="score", mode="max", scheduler=asha, search_alg=search),
            run_config=tune.RunConfig(
                name=f"{context.parent}-{lease.token}",
                storage_path=str(Path("build/sweeps").absolute()),
                verbose=0,
                callbacks=[SweepCallback(bar, context, lease, search)],
            ),
        )
        return tuner.fit()


def _concurrent_trials(train: TrainConfig, trials: int) -> int:
    """Returns how many of the trials may run at once, at least 1: as many as fit on the cluster.

    With an autoscaler it is twice that number, because nodes are added only for trials that wait for them.
    """
    workers = [worker_resources(train)] * train.num_workers
    fitting = max(1, placeable([*workers, {"CPU": TRIAL_CPUS}], trials))
    return 2 * fitting if may_scale() else fitting


class SweepCallback(tune.Callback):
    """Moves the progress bar, ends the MLflow runs of trials that ASHA stops, and checks the lease and the cluster."""

    def __init__(self, bar: "tqdm[Any]", context: SweepContext, lease: Lease, search: BasicVariantGenerator) -> None:
        self._bar, self._context, self._lease, self._search = bar, context, lease, search
        self._checked = 0.0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        """Called by Tune many times per second."""
        if time.monotonic() > self._checked + CHECK_S:
            self._checked = time.monotonic()
            self._lease.require()
            self._search.max_concurrent = _concurrent_trials(self._context.setup.train, int(self._bar.total or 0))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Called by Tune when a trial has finished or was stopped."""
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
