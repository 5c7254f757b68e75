"""A feature set to a trained model and a registered candidate version.

    python -m jobs.train --features /data/features/flickr30k-0123456789ab --name shan-flickr30k --preset flickr30k

The epoch with the best validation rSum is registered as a model version; `jobs.promote` decides whether it becomes
champion.
"""

from typing import Any

import infra.tracking
from jobs import cli
from pipelines.features.feature_set import FeatureSet
from pipelines.training.train import report, run_training


def _arguments(parser: Any) -> None:
    parser.add_argument("--features", type=str, required=True, help="URI of a feature set")
    parser.add_argument("--name", type=str, required=True, help="registered model that gets the new version")
    parser.add_argument("--resume", action="store_true", help="go on with the training that the same command began")


def main() -> None:
    """Command line."""
    arguments, config = cli.parse(
        "train",
        "A feature set to a registered candidate.",
        _arguments,
        ("model", "train", "cache", "tracking", "cluster"),
    )
    features = FeatureSet.open(arguments.features)
    tracking = infra.tracking.connect(config.tracking)
    print(report(run_training(features, arguments.name, config.training(), tracking, arguments.resume)))


if __name__ == "__main__":
    cli.run(main)
