"""Many trainings with other settings, the weaker ones stopped early, the best one trained to its end and registered.

    python -m jobs.sweep --features URI --name M --preset flickr30k --sweep.num_trials 16 \\
        --space "train.learning_rate=loguniform(1e-4, 1e-3)" "model.gate=choice(vector, scalar)"

Ray Tune draws the settings and stops by ASHA (Li et al., MLSys 2020) on validation rSum. Every trial is a training as
`jobs.train` makes it, with a run of its own below the sweep's; the same command goes on where it was cut off.
"""

from typing import Any

import infra.tracking
from jobs import cli
from pipelines.features.feature_set import FeatureSet
from pipelines.training.sweeps.sweep import run_sweep, table
from pipelines.training.train import report as training_report


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
    trials, best = run_sweep(features, arguments.name, arguments.space, config.sweep, config.training(), tracking)
    print(table(trials).markdown())
    print(training_report(best))


if __name__ == "__main__":
    cli.run(main)
