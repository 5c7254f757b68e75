"""pipelines/training/sweeps/sweep.py."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

import infra.cluster
import infra.tracking
from infra.errors import UserError
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.features.shards import canonical_json
from pipelines.reports.tables import Table
from pipelines.training.driver import stored_progress
from pipelines.training.run_directory import Place, Seat, absolute_output, place_at, require_output
from pipelines.training.setup import TrainingSetup
from pipelines.training.sweeps.config import SweepConfig
from pipelines.training.sweeps.space import draws, parse_space, with_fields
from pipelines.training.train import TrainedModel, run_training

if TYPE_CHECKING:
    from ray.tune import ResultGrid

    from pipelines.training.sweeps.trial import Base


TRIAL_CPUS = 0.01
"""A trial only waits for its training; Tune must be asked for something, though."""


ASK_S = 5.0
"""Seconds between looks at whether another process has taken the sweep over."""


@dataclass(frozen=True)
class Trial:
    """What became of one draw."""

    values: dict[str, Any]
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
    """All trials, best first, and the version that the best became. UserError if no trial has finished an epoch."""
    from pipelines.training.sweeps.trial import Base

    space = parse_space(entries)
    # Trials run in folders of their own.
    setup = replace(setup, train=replace(setup.train, output=absolute_output(setup.train.output)))
    place = _place_of(features, name, entries, sweep, setup)
    if (done := place.finished()) is not None:
        told = [
            replace(Trial(**each), values={field: each["values"][field] for field in space}) for each in done["trials"]
        ]
        return told, TrainedModel(**done["best"])
    parent = place.run_id() or _claimed_run(place, features, name, entries, sweep, tracking)
    tracking.require_run(parent)
    # Ray Train frees the CPUs of a trial that is stopped by asking the state API whether it still lives.
    infra.cluster.connect(setup.cluster, dashboard=True)
    seat = place.take()
    base = Base(f"{features.uri}@{features.lineage['feature_set'][:12]}", name, setup, tracking, parent)
    with tracking.running(parent):
        grid = _tune(space, sweep, base, seat)
        seat.require()
        trials = _trials(grid)
        _complete_runs(tracking, [trial.run_id for trial in trials])
        if not trials:
            raise UserError(f"no trial has finished an epoch ({_first_error(grid)}); try the settings with jobs.train")
        tracking.client().log_text(parent, table(trials).markdown() + "\n", "sweep.md")
        best = run_training(features, name, with_fields(setup, trials[0].values), tracking, resume=None)
        seat.require()
        tracking.log_metrics(parent, best.metrics)
        tracking.client().set_tag(parent, "best_run", best.run_id)
        place.finish({"trials": [asdict(trial) for trial in trials], "best": asdict(best)})
    return trials, best


def _place_of(
    features: FeatureSet, name: str, entries: Sequence[str], sweep: SweepConfig, setup: TrainingSetup
) -> Place:
    """The place of exactly this sweep, beside those of its trials."""
    told = {
        "features": features.lineage["feature_set"],
        "space": list(entries),
        "sweep": asdict(sweep),
        "model": asdict(setup.model),
        "train": setup.train.what_is_trained(),
    }
    require_output(setup.train.output)
    folder = f"{name}-sweep-{sha256(canonical_json(told)).hexdigest()[:12]}"
    return place_at(setup.train.output, folder)


def _claimed_run(
    place: Place,
    features: FeatureSet,
    name: str,
    entries: Sequence[str],
    sweep: SweepConfig,
    tracking: Tracking,
) -> str:
    run_id = tracking.create_run(f"{name} sweep", {"feature_set_uri": features.uri})
    tracking.log_params(run_id, {f"space.{i}": entry for i, entry in enumerate(entries)} | asdict(sweep))
    if not place.claim(run_id):
        tracking.client().delete_run(run_id)
        raise UserError(f"{place.store.uri}: another process began this sweep just now; let it go on")
    return run_id


def table(trials: Sequence[Trial]) -> Table:
    """A row a trial, best first."""
    fields = list(trials[0].values)
    rows = [[*(f"{t.values[f]:.4g}" if isinstance(t.values[f], float) else str(t.values[f]) for f in fields),
             f"{t.best_rsum:.1f}", str(t.epochs), t.run_id] for t in trials]  # fmt: skip
    return Table("trials, best first", [*fields, "best validation rSum", "epochs", "run"], rows)


def _tune(space: dict[str, Any], sweep: SweepConfig, base: "Base", seat: Seat) -> "ResultGrid":
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator

    from pipelines.training.sweeps.trial import run_trial

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # its own takes an interrupted sweep for a finished one
    train = base.setup.train
    there = ray.cluster_resources()
    at_once = there.get("CPU", 0) // (train.num_workers * train.cpus_per_worker + TRIAL_CPUS)
    if train.use_gpu:
        at_once = min(at_once, there.get("GPU", 0) // train.num_workers)
    search = BasicVariantGenerator(max_concurrent=max(1, int(at_once)))
    asha = ASHAScheduler(
        time_attr="epoch",
        max_t=train.epochs,
        grace_period=min(sweep.grace_period_epochs, train.epochs),
        reduction_factor=sweep.reduction_factor,
    )
    with tqdm(desc="sweep", unit="trial") as bar:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_trial, base=base), {"CPU": TRIAL_CPUS}),
            param_space={"values": tune.grid_search(draws(space, sweep.num_trials, sweep.seed))},
            tune_config=tune.TuneConfig(metric="score", mode="max", scheduler=asha, search_alg=search),
            run_config=tune.RunConfig(
                name=f"{base.parent}-{seat.number}",
                storage_path=str(Path("build/sweeps").absolute()),
                verbose=0,
                callbacks=[_watching(bar, base, seat)],
            ),
        )
        return tuner.fit()


def _watching(bar: "tqdm[Any]", base: "Base", seat: Seat) -> Any:
    from ray import tune

    from pipelines.training.sweeps.trial import STOPPED_BY

    class Watching(tune.Callback):
        """Moves the bar with every trial that ends, and ends the run of one that ASHA stopped.

        Ends this sweep where another process goes on with it.
        """

        asked = 0.0

        def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
            """Many times a second."""
            if time.monotonic() > self.asked + ASK_S:
                self.asked = time.monotonic()
                seat.require()

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
            """It finished, or was stopped."""
            bar.total = len(trials)
            bar.set_postfix_str(f"last rSum {trial.last_result.get('score', float('nan')):.1f}", refresh=False)
            bar.update()
            if run_id := trial.last_result.get("run_id"):
                client = base.tracking.client()
                if client.get_run(run_id).info.status != "RUNNING":
                    return
                if trial.last_result["epoch"] < base.setup.train.epochs:
                    client.set_tag(run_id, STOPPED_BY, base.parent)
                    client.set_terminated(run_id, "KILLED")
                else:
                    client.set_terminated(run_id)

    return Watching()


def _trials(grid: "ResultGrid") -> list[Trial]:
    found = []
    for result in grid:
        if not result.metrics or "run_id" not in result.metrics:
            continue
        told = result.metrics
        found.append(Trial(result.config["values"], told["run_id"], float(told["best"]), int(told["epoch"])))
    return sorted(found, key=lambda trial: -trial.best_rsum)


def _complete_runs(tracking: Tracking, run_ids: Sequence[str]) -> None:
    """What of their points did not reach MLflow: whoever sent them was stopped with the training."""
    client = tracking.client()
    for run_id in run_ids:
        run = client.get_run(run_id)
        output, _, name = run.data.tags["run_directory"].rpartition("/")
        tracking.log_rows(run_id, stored_progress(place_at(output, name)).history)
        if run.info.status == "RUNNING":
            client.set_terminated(run_id, "FAILED")


def _first_error(grid: "ResultGrid") -> str:
    return str(grid.errors[0]).strip().splitlines()[-1] if grid.errors else "all were stopped"
