"""Trains one model in this process: the steps, batches and validation of `jobs.train` with one worker.

    python -m tests.benchmarks.local_training FEATURES FOLDER OPTION...

The options are those of `jobs.train`, and equal options give the model that it registers. Ray and MLflow do not start,
which takes most of the time of a training of a few hundred steps. FOLDER then has the bundle of the best epoch and
`training.json`: that epoch, its rSum on `val`, and the seconds of the training.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from jobs import cli
from pipelines.features.feature_set import FeatureSet
from pipelines.training.checkpoint import ON_PLATEAU, TrainState
from pipelines.training.config import TrainConfig
from pipelines.training.data import batches_of
from pipelines.training.plateau import on_plateau
from pipelines.training.step import objective_of, take_step
from pipelines.training.validation import validation_scores
from shan_model.bundle import save_bundle
from shan_model.config import ModelConfig
from shan_model.metrics import retrieval_recalls
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary

RESULT = "training.json"


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    epoch: int
    """The best epoch, counted from 1."""
    val_rsum: float
    seconds: float


def configs_of(options: Sequence[str]) -> tuple[ModelConfig, TrainConfig]:
    """Returns the configs that `jobs.train` has with these options."""
    config = cli.parse("train", "", lambda _: None, ("model", "train", "cache", "cluster"), list(options))[1]
    return config.model, config.train


def train_here(features: FeatureSet, model: ModelConfig, config: TrainConfig, folder: Path) -> Trained:
    """Trains a model and writes the bundle of its best epoch into a folder."""
    start = time.monotonic()
    torch.set_num_threads(config.cpus_per_worker)
    train, val = features.split("train").captioned(), features.split("val").captioned()
    batches = batches_of(train, config)
    torch.manual_seed(config.seed)
    state = TrainState(
        SHAN(model, Vocabulary.build(train.captions, config.min_word_count)), config, torch.device("cpu")
    )
    objective, best = objective_of(state.shan, config), Trained(0, -1.0, 0.0)
    for epoch in range(1, config.epochs + 1):
        for batch in batches.batches(epoch - 1, 0, 0, 1):
            take_step(state, objective, [batch], config, batches.batches_per_epoch)
        scores_NC = validation_scores(state.evaluation_model, val, 0, 1, config.precision)
        plateau = float(on_plateau(scores_NC, val.photo_of_caption, config.margin))
        state.progress.history.append((state.progress.step, 0, {ON_PLATEAU: plateau, "epoch": epoch}))
        rsum = retrieval_recalls(scores_NC, val.photo_of_caption).rsum
        if rsum >= best.val_rsum:  # of equal epochs, jobs.train registers the last
            best = Trained(epoch, rsum, 0.0)
            save_bundle(state.evaluation_model, folder)
    return replace(best, seconds=time.monotonic() - start)


def main(features: str, folder: str, *options: str) -> None:
    """Trains and writes the result."""
    trained = train_here(FeatureSet.open(features), *configs_of(options), Path(folder))
    (Path(folder) / RESULT).write_text(json.dumps(vars(trained)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
