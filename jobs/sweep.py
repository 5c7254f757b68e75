"""Trains with many sampled settings, stops the weaker trials early and registers the best one.

    python -m jobs.sweep --features URI --name M --preset flickr30k --sweep.num_trials 16 \\
        --space "train.learning_rate=loguniform(1e-4, 1e-3)" "model.gate=choice(vector, scalar)"

Ray Tune samples the settings, and ASHA (Li et al., MLSys 2020) stops trials on validation rSum. Every trial is a
training like that of `jobs.train`, in a nested MLflow run. Re-run the same command to resume an interrupted sweep.
"""

from typing import Any

import infra.tracking
from jobs import cli, options
from pipelines.features.feature_set import FeatureSet
from pipelines.training.sweeps.sweep import run_sweep, trials_table
from pipelines.training.train import training_summary


def _arguments(parser: Any) -> None:
    options.add(parser, "--features", required=True)
    options.add(parser, "--name", "The best trial is registered as a new version.")
    parser.add_argument(
        "--space",
        type=str,
        nargs="+",
        required=True,
        help="Fields to sample and their distributions (choice, grid, uniform, loguniform or randint), for example "
        "train.learning_rate=loguniform(1e-4, 1e-2) model.gate=choice(vector, scalar).",
    )


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "sweep",
        "Train with many settings, stop weak trials early, register the best.",
        _arguments,
        ("sweep", "model", "train", "cache", "tracking", "register", "cluster"),
    )
    features = FeatureSet.open(arguments.features)
    tracking = infra.tracking.connect(config.tracking)
    trials, best = run_sweep(features, arguments.name, arguments.space, config.sweep, config.training(), tracking)
    print(trials_table(trials).markdown())
    print(training_summary(best))


if __name__ == "__main__":
    cli.run(main)
