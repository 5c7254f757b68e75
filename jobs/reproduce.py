"""Trains the models of the paper's tables on SCAN's features and prints their recalls beside the paper's.

    make reproduce DATA=f30k_precomp OPTIONS="--train.word_vectors glove.840B.300d.txt"
    python -m jobs.reproduce --features f30k_precomp --train.use_gpu true --train.num_workers 1 ...

The size of the test split selects the figures: 1,000 photos are Flickr30K, 5,000 are COCO, evaluated on five folds.
Every model trains with the preset `paper`. The paper does not state its seed, learning rate and batch size
(docs/model.md has all choices). Its word vectors are a file of yours. A second table lists the settings that differ.
A rerun resumes an interrupted training and trains only what is missing.
"""

from collections.abc import Sequence
from typing import Any

import infra.tracking
from infra.errors import UserError
from infra.signals import when_interrupted
from jobs import cli, options
from jobs.config_files import preset_sections
from pipelines.evaluation.score import driver_device
from pipelines.reports.tables import Table, check_report, markdown, write_report
from pipelines.reproduction import (
    MODEL_FIELDS,
    MODELS,
    Reproduction,
    check_features,
    check_training,
    imported,
    models_of,
    protocol_of,
    reproduce,
    settings_table,
)
from pipelines.training.config import TrainConfig
from pipelines.training.setup import TrainingSetup
from shan_model.config import ModelConfig


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
    _refuse_model_fields(arguments.section_options, config.model)
    device, setup = driver_device(arguments.device, config.score), config.training()
    check_features(arguments.features, config.model.region_dim)
    with when_interrupted("re-run the same command to continue"):
        check_training(setup, config.score)
        tracking = infra.tracking.connect(config.tracking)
        features = imported(arguments.features, arguments.feature_root)
        protocol = protocol_of(features)
        settings, tables = settings_table(setup, _paper()), list[Table]()
        reproduction = Reproduction(features, setup, tracking, config.score, device)
        for compared in reproduce(reproduction, list(dict.fromkeys(arguments.models)) or models_of(protocol), protocol):
            tables = [compared, settings]
            if arguments.report is not None:
                write_report(arguments.report, f"test of {features.uri}", tables)
    print(markdown(tables))


def _refuse_model_fields(section_options: Sequence[str], model: ModelConfig) -> None:
    """Raises UserError for an option of a field that each of --models sets."""
    for name in MODEL_FIELDS:
        if f"--model.{name}" in section_options:
            value = getattr(model, name)
            raise UserError(f"--model.{name} is {value}, but each model of --models has its own; omit it")


def _paper() -> TrainingSetup:
    """Returns the settings of the preset `paper`."""
    sections = preset_sections("paper", ("model", "train"))
    return TrainingSetup(ModelConfig(**sections["model"]), TrainConfig(**sections["train"]))


if __name__ == "__main__":
    cli.run(main)
