"""What each training process does: batches of its rank, DDP steps, validation shared between ranks, reports.

Runs inside Ray Train workers; `jobs.train` starts them.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import nn

from jobs.config import TrainConfig
from pipelines.feature_set import FeatureSet, Split
from shan_model.bundle import save_bundle
from shan_model.config import ModelConfig
from shan_model.loss import is_collapsed
from shan_model.metrics import Recalls, retrieval_recalls
from shan_model.model import SHAN
from shan_model.objective import RankingObjective
from shan_model.scoring import score_matrix
from shan_model.vocabulary import Vocabulary


@dataclass(frozen=True)
class TrainJob:
    """All that a worker needs to know; it opens everything else itself."""

    features: str
    """URI of the feature set."""
    model: ModelConfig
    train: TrainConfig
    bar: Any
    """Actor of `infra.progress.worker_bar`, in steps."""


def train_loop(settings: dict[str, TrainJob]) -> None:
    """Trains, and reports metrics and a checkpoint (a model bundle) after every epoch."""
    job = settings["job"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(1)  # one logical CPU a worker; more threads fight over the cores
    torch.manual_seed(job.train.seed)
    features = FeatureSet.open(job.features)
    train, val = features.split("train"), features.split("val")
    shan = SHAN(job.model, Vocabulary.build(train.captions, job.train.min_word_count))
    objective = ray.train.torch.prepare_model(RankingObjective(shan, job.train.margin))
    optimizer = torch.optim.Adam(shan.parameters(), lr=job.train.learning_rate)
    step = 0
    for epoch in range(job.train.epochs):
        losses = []
        for batch in epoch_batches(train, job.train, epoch, rank, world):
            losses.append(_step(objective, optimizer, train, batch, job.train, epoch))
            if rank == 0:
                job.bar.move.remote(1)
        step += len(losses)
        recalls = _validate(shan, val, rank, world)
        metrics = {f"val_{name}": value for name, value in recalls.as_metrics().items()}
        metrics |= {
            "epoch": epoch + 1,
            "step": step,
            "loss": float(np.mean(losses)),
            "lr": learning_rate(job.train, epoch),
        }
        if rank == 0:
            job.bar.move.remote(0, _note(metrics, job.train, world))
        _report(shan, {**metrics, "losses": losses}, rank)


def steps_per_epoch(captions: int, config: TrainConfig) -> int:
    """Full batches in a pass over all captions; what is left over takes part in other epochs' batches."""
    return max(1, captions // config.batch_size)


def epoch_batches(
    train: Split, config: TrainConfig, epoch: int, rank: int, world: int
) -> Iterator[NDArray[np.integer]]:
    """This rank's share of every batch of an epoch: indices of captions, equally many on every rank.

    The order is a permutation of all captions that depends on seed and epoch only.
    """
    order = np.random.default_rng([config.seed, epoch]).permutation(len(train.photo_of_caption))
    for number in range(steps_per_epoch(len(order), config)):
        batch = order[number * config.batch_size : (number + 1) * config.batch_size]
        yield batch[: len(batch) // world * world][rank::world]


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """A function of the epoch alone, so that it is right wherever a run begins."""
    return config.learning_rate * (0.1 if epoch >= config.decay_after else 1.0)


def _step(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Split,
    batch: NDArray[np.integer],
    config: TrainConfig,
    epoch: int,
) -> float:
    photos = train.photo_of_caption[batch]
    objective.train()
    loss: torch.Tensor = objective(
        torch.from_numpy(train[photos]),
        [train.captions[i] for i in batch],
        torch.from_numpy(photos),
        epoch >= config.warmup_epochs,
    )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, epoch)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(objective.parameters(), config.clip_norm)
    optimizer.step()
    return loss.item()


def _validate(shan: SHAN, val: Split, rank: int, world: int) -> Recalls:
    """Every rank scores its share of the photos against all captions; all of them get the whole result."""
    rows = np.array_split(np.arange(len(val)), world)[rank]
    mine = score_matrix(shan, val[rows], val.captions) if len(rows) else np.empty((0, len(val.captions)), np.float32)
    shares: list[NDArray[np.float32]] = [mine] * world
    if world > 1:
        torch.distributed.all_gather_object(shares, mine)
    return retrieval_recalls(np.concatenate(shares), val.photo_of_caption)


def _note(metrics: dict[str, float], config: TrainConfig, world: int) -> str:
    """What the bar says after an epoch; a loss at 2 x batch x margin means that nothing is learnt any more."""
    note = f"epoch {metrics['epoch']}: loss {metrics['loss']:.2f}, validation rSum {metrics['val_rsum']:.1f}"
    if is_collapsed(metrics["loss"], config.batch_size // world, config.margin):
        note += "; collapsed: start again with train.warmup_epochs=1 or more"
    return note


def _report(shan: SHAN, metrics: dict[str, object], rank: int) -> None:
    """Rank 0 hands the bundle over; every rank reports, or Ray Train would wait for the missing one."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if rank == 0:
            save_bundle(shan, Path(folder))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        name = f"epoch-{metrics['epoch']:03d}"
        ray.train.report(metrics, checkpoint=checkpoint, checkpoint_dir_name=name)
