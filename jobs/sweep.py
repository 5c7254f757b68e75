"""Many trainings with other settings, the weaker ones stopped early, the best one trained to its end and registered.

    python -m jobs.sweep --features URI --name M --preset flickr30k --trials 16 \\
        --space "train.learning_rate=loguniform(1e-4, 1e-3)" "model.gate=choice(vector, scalar)"

Ray Tune draws the settings and stops by ASHA (Li et al., MLSys 2020) on validation rSum. Every trial is a training as
`jobs.train` makes it, with a run of its own below the sweep's; the same command goes on where it was cut off.
"""

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
from jobs import cli
from jobs.config import Config
from jobs.sweep_space import draws, parse_space, with_fields
from jobs.tables import Table
from jobs.train import TrainedModel, run_training
from jobs.train import report as training_report
from jobs.training import absolute_output
from pipelines.feature_set import FeatureSet
from pipelines.shards import canonical_json

if TYPE_CHECKING:
    from ray.tune import ResultGrid


TRIAL_CPUS = 0.01
"""A trial only waits for its training; Tune must be asked for something, though."""


@dataclass(frozen=True)
class Trial:
    """What became of one draw."""

    values: dict[str, Any]
    run_id: str
    best_rsum: float
    epochs: int


def run_sweep(
    features: FeatureSet, name: str, entries: Sequence[str], config: Config, tracking: Tracking
) -> tuple[list[Trial], TrainedModel]:
    """All trials, best first, and the version that the best became. UserError if no trial has finished an epoch."""
    space = parse_space(entries)
    # Ray Train frees the CPUs of a trial that is stopped by asking the state API whether it still lives.
    infra.cluster.connect(config.cluster, dashboard=True)
    # Trials run in folders of their own.
    config = replace(config, train=replace(config.train, output=absolute_output(config.train.output)))
    parent = _run_of(features, name, entries, config, tracking)
    with tracking.running(parent):
        pinned = f"{features.uri}@{features.lineage['feature_set'][:12]}"
        grid = _tune(space, pinned, name, config, tracking, parent)
        trials = _trials(grid)
        _end_failed(tracking, parent)
        if not trials:
            raise UserError(f"no trial has finished an epoch ({_first_error(grid)}); try the settings with jobs.train")
        tracking.client().log_text(parent, table(trials).markdown() + "\n", "sweep.md")
        best = run_training(features, name, with_fields(config, trials[0].values), tracking, resume=None)
        began = tracking.client().get_run(parent).info.start_time  # a time that stays, so that the point is there once
        tracking.log_rows(parent, [(0, began, best.metrics)])
        tracking.client().set_tag(parent, "best_run", best.run_id)
    return trials, best


def _run_of(features: FeatureSet, name: str, entries: Sequence[str], config: Config, tracking: Tracking) -> str:
    """The MLflow run of exactly this sweep: the one that an earlier process began, else a new one."""
    told = {
        "features": features.lineage["feature_set"],
        "name": name,
        "space": list(entries),
        "sweep": asdict(config.sweep),
        "model": asdict(config.model),
        "train": config.train.what_is_trained(),
        "output": config.train.output,
    }
    digest = sha256(canonical_json(told)).hexdigest()[:12]
    found = tracking.client().search_runs([tracking.experiment_id], f"tags.sweep = '{digest}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    run_id = tracking.create_run(f"{name} sweep", {"features": features.uri, "sweep": digest})
    tracking.log_params(run_id, {f"space.{i}": entry for i, entry in enumerate(entries)} | asdict(config.sweep))
    return run_id


def table(trials: Sequence[Trial]) -> Table:
    """A row a trial, best first."""
    fields = list(trials[0].values)
    rows = [[*(f"{t.values[f]:.4g}" if isinstance(t.values[f], float) else str(t.values[f]) for f in fields),
             f"{t.best_rsum:.1f}", str(t.epochs), t.run_id] for t in trials]  # fmt: skip
    return Table("trials, best first", [*fields, "best validation rSum", "epochs", "run"], rows)


def _tune(
    space: dict[str, Any], features: str, name: str, config: Config, tracking: Tracking, parent: str
) -> "ResultGrid":
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator

    from jobs.sweep_trial import Base, run_trial

    train, sweep = config.train, config.sweep
    base = Base(features, name, config, tracking, parent)
    cpus = ray.cluster_resources().get("CPU", 0)
    at_once = max(1, int(cpus // (train.workers * train.cpus_per_worker + TRIAL_CPUS)))
    search = BasicVariantGenerator(max_concurrent=at_once)
    asha = ASHAScheduler(
        time_attr="epoch",
        max_t=train.epochs,
        grace_period=min(sweep.grace_epochs, train.epochs),
        reduction_factor=sweep.reduction,
    )
    with tqdm(desc="sweep", unit="trial") as bar:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_trial, base=base), {"CPU": TRIAL_CPUS}),
            param_space={"values": tune.grid_search(draws(space, sweep.trials, sweep.seed))},
            tune_config=tune.TuneConfig(metric="score", mode="max", scheduler=asha, search_alg=search),
            run_config=tune.RunConfig(
                name=parent,
                storage_path=str(Path("build/sweeps").absolute()),
                verbose=0,
                callbacks=[_ending(bar, tracking)],
            ),
        )
        return tuner.fit()


def _ending(bar: "tqdm[Any]", tracking: Tracking) -> Any:
    from ray import tune

    class Ending(tune.Callback):
        """Moves the bar with every trial that ends, and ends the runs of those that ASHA stopped."""

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
            """It finished, or was stopped."""
            bar.total = len(trials)
            bar.set_postfix_str(f"last rSum {trial.last_result.get('score', float('nan')):.1f}", refresh=False)
            bar.update()
            if run_id := trial.last_result.get("run_id"):
                client = tracking.client()
                if client.get_run(run_id).info.status == "RUNNING":
                    client.set_terminated(run_id, "KILLED")

    return Ending()


def _trials(grid: "ResultGrid") -> list[Trial]:
    found = []
    for result in grid:
        if not result.metrics or "run_id" not in result.metrics:
            continue
        told = result.metrics
        found.append(Trial(result.config["values"], told["run_id"], float(told["best"]), int(told["epoch"])))
    return sorted(found, key=lambda trial: -trial.best_rsum)


def _end_failed(tracking: Tracking, parent: str) -> None:
    """Runs of trials that neither finished nor were stopped."""
    client = tracking.client()
    for run in client.search_runs(
        [tracking.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=5000
    ):
        if run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, "FAILED")


def _first_error(grid: "ResultGrid") -> str:
    return str(grid.errors[0]).strip().splitlines()[-1] if grid.errors else "all were stopped"


def _arguments(parser: Any) -> None:
    parser.add_argument("--features", type=str, required=True, help="URI of a feature set")
    parser.add_argument(
        "--name", type=str, required=True, help="registered model that gets the best trial as a version"
    )
    parser.add_argument(
        "--space",
        type=str,
        nargs="+",
        required=True,
        help="fields and draws, as train.learning_rate=loguniform(1e-4, 1e-2) model.gate=choice(vector, scalar); "
        "choice, grid, uniform, loguniform, randint",
    )


def main() -> None:
    """Command line."""
    arguments, config = cli.parse(
        "sweep", "The best of many trainings.", _arguments, ("sweep", "model", "train", "cache", "tracking", "cluster")
    )
    features = FeatureSet.open(arguments.features)
    tracking = infra.tracking.connect(config.tracking)
    trials, best = run_sweep(features, arguments.name, arguments.space, config, tracking)
    print(table(trials).markdown())
    print(training_report(best))


if __name__ == "__main__":
    cli.run(main)
