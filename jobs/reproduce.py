"""Trains the models of the paper's tables on SCAN's features and prints their recalls beside the paper's rSum.

    make reproduce DATA=f30k_precomp
    python -m jobs.reproduce --features coco_precomp --train.use_gpu true --train.word_vectors glove.840B.300d.txt

The size of the test split selects the figures: 1,000 photos are Flickr30K, 5,000 are COCO, evaluated on five folds.
Every model trains with the preset `paper`. The paper does not state its seed, learning rate and batch size
(docs/model.md has all choices). Its word vectors are a file of yours. A rerun resumes an interrupted training and
trains only what is missing.
"""

from typing import Any

import infra.tracking
from infra.signals import when_interrupted
from jobs import cli, options
from pipelines.evaluation.score import driver_device
from pipelines.reports.tables import check_report, markdown, write_report
from pipelines.reproduction import MODELS, Reproduction, imported, models_of, protocol_of, reproduce


def _arguments(parser: Any) -> None:
    options.add(parser, "--features", "A folder in SCAN's format is imported first.", required=True)
    options.add(parser, "--feature-root")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=tuple(MODELS),
        default=[],
        metavar="MODEL",
        help=f"Models to train: {', '.join(MODELS)}. Defaults to all for which the paper has figures on this data set.",
    )
    options.add(parser, "--device")
    options.add(parser, "--report")


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "reproduce",
        "Train the models of the paper's tables on SCAN's features and compare recalls.",
        _arguments,
        ("model", "train", "cache", "score", "tracking", "register", "cluster"),
        default_preset="paper",
    )
    check_report(arguments.report)
    device = driver_device(arguments.device, config.score)
    with when_interrupted("re-run the same command to continue"):
        features = imported(arguments.features, arguments.feature_root)
        protocol = protocol_of(features)
        models = arguments.models or models_of(protocol)
        tracking = infra.tracking.connect(config.tracking)
        table = reproduce(Reproduction(features, config.training(), tracking, config.score, device), models, protocol)
    print(markdown([table]))
    if arguments.report is not None:
        write_report(arguments.report, f"test of {features.uri}", [table])


if __name__ == "__main__":
    cli.run(main)
