"""Trains a model on a feature set and registers its best epoch as a model version.

    python -m jobs.train --features /data/features/flickr30k-0123456789ab --name shan-flickr30k --preset flickr30k

The registered epoch is the one with the best validation rSum. `jobs.promote` decides whether it becomes the champion.
An interrupted training resumes with `--resume`.
"""

from typing import Any

import infra.tracking
from jobs import cli, options
from pipelines.features.feature_set import FeatureSet
from pipelines.training.train import run_training, training_summary


def _arguments(parser: Any) -> None:
    options.add(parser, "--features", required=True)
    options.add(parser, "--name", "The best epoch is registered as a new version.")
    parser.add_argument("--resume", action="store_true", help="Resume the existing run of this configuration.")


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "train",
        "Train a model on a feature set and register a version.",
        _arguments,
        ("model", "train", "cache", "tracking", "register", "cluster"),
    )
    features = FeatureSet.open(arguments.features)
    tracking = infra.tracking.connect(config.tracking)
    print(training_summary(run_training(features, arguments.name, config.training(), tracking, arguments.resume)))


if __name__ == "__main__":
    cli.run(main)
