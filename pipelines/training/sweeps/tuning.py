"""Runs the trials of a sweep with Ray Tune and ASHA (Li et al., MLSys 2020)."""

import os
import time
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator

from infra.cluster_resources import may_scale, placeable
from infra.errors import StorageError
from infra.log import log
from infra.outages import outage_as_warning
from infra.progress import ProgressBar
from infra.storage.disk import names_full_disk
from pipelines.training.config import TrainConfig
from pipelines.training.driver import worker_resources
from pipelines.training.run_directory import Lease
from pipelines.training.sweeps.config import SweepConfig
from pipelines.training.sweeps.trial import SweepContext, run_trial

TRIAL_RESOURCES = {"memory": 1}
"""Resources of a trial, in bytes: it only waits for its training, which must find all CPUs, but Tune requires some."""
CHECK_S = 5.0
"""Seconds between checks of the lease and of the cluster's size."""


def tune_trials(
    sampled: list[dict[str, Any]], sweep: SweepConfig, context: SweepContext, lease: Lease, folder: Path
) -> tune.ResultGrid:
    """Runs a trial with each of the sampled values to its end, or until ASHA stops it.

    Tune writes into `folder`, from this process only: trials report no checkpoints to it. Raises LeaseLostError if the
    lease is lost, and UserError if the disk of the folder is full.
    """
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Tune's own handler would make an interrupted sweep look finished
    epochs = context.setup.train.epochs
    asha = ASHAScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=min(sweep.grace_period_epochs, epochs),
        reduction_factor=sweep.reduction_factor,
    )
    search = BasicVariantGenerator(max_concurrent=_concurrent_trials(context.setup.train, len(sampled)))
    full_disk = names_full_disk(folder, "free space, or set TMPDIR to a folder on a larger disk")
    with full_disk, ProgressBar(desc="sweep", unit="trial", total=len(sampled)) as bar:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_trial, sweep=context), TRIAL_RESOURCES),
            param_space={"values": tune.grid_search(sampled)},
            tune_config=tune.TuneConfig(metric="score", mode="max", scheduler=asha, search_alg=search),
            run_config=tune.RunConfig(
                name=f"{context.parent}-{lease.token}",
                storage_path=str(folder),
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
    fitting = max(1, placeable(workers, trials))
    return 2 * fitting if may_scale() else fitting


class SweepCallback(tune.Callback):
    """Moves the progress bar, ends the MLflow runs of trials that ASHA stops, and checks the lease and the cluster.

    An outage of MLflow or of the object store is a warning; the sweep continues.
    """

    def __init__(self, bar: ProgressBar, context: SweepContext, lease: Lease, search: BasicVariantGenerator) -> None:
        self._bar, self._context, self._lease, self._search = bar, context, lease, search
        self._checked = 0.0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        """Called by Tune many times per second."""
        if time.monotonic() > self._checked + CHECK_S:
            self._checked = time.monotonic()
            try:
                self._lease.require()
            except StorageError as error:
                log.warning("%s; the sweep continues", error, extra={"event": "store_outage"})
            self._search.max_concurrent = _concurrent_trials(self._context.setup.train, int(self._bar.total or 0))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Called by Tune when a trial has finished or was stopped."""
        self._bar.update()
        self._bar.set_postfix_str(f"last rSum {trial.last_result.get('score', float('nan')):.1f}", refresh=False)
        if run_id := trial.last_result.get("run_id"):
            with outage_as_warning(f"run {run_id} is completed at the end of the sweep"):
                if not self._lease.is_lost():  # else the trial may be running in the process that resumed the sweep
                    self._context.end_run(run_id, trial.last_result["epoch"] == self._context.setup.train.epochs)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Called by Tune when a trial has failed."""
        self._bar.update()
        reason = (str(trial.get_error()).strip().splitlines() or ["unknown"])[-1]
        log.warning("the trial %s failed (%s)", trial.config["values"], reason, extra={"event": "trial_failed"})
