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
from pipelines.training.checkpoint import ON_PLATEAU
from pipelines.training.data import batches_of, local_splits
from pipelines.training.initial_state import initial_state
from pipelines.training.inputs import with_word_vectors
from pipelines.training.plateau import on_plateau
from pipelines.training.setup import TrainingSetup
from pipelines.training.step import objective_of, take_step
from pipelines.training.validation import validation_scores
from shan_model.bundle import save_bundle
from shan_model.metrics import retrieval_recalls

RESULT = "training.json"


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    epoch: int
    """The best epoch, counted from 1."""
    val_rsum: float
    seconds: float


def setup_of(options: Sequence[str]) -> TrainingSetup:
    """Returns the setup that `jobs.train` has with these options."""
    return cli.parse("train", "", lambda _: None, ("model", "train", "cache", "cluster"), list(options))[1].training()


def train_here(features: FeatureSet, setup: TrainingSetup, folder: Path) -> Trained:
    """Trains a model and writes the bundle of its best epoch into a folder."""
    start, config = time.monotonic(), setup.train
    torch.set_num_threads(config.cpus_per_worker)
    train, val = local_splits(features, config, setup.cache)
    setup, word_vectors = with_word_vectors(train.captions, setup)
    batches = batches_of(train, config)
    state = initial_state(setup.model, config, train.captions, word_vectors, torch.device("cpu"))
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
    trained = train_here(FeatureSet.open(features), setup_of(options), Path(folder))
    (Path(folder) / RESULT).write_text(json.dumps(vars(trained)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
