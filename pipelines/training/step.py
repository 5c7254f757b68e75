"""One step of the optimizer: the mean gradient of its batches, clipped, by Adam at the step's learning rate."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.training.batches import Batch
from pipelines.training.checkpoint import TrainState
from pipelines.training.config import TrainConfig
from pipelines.training.schedule import learning_rate, takes_hardest
from shan_model.model import SHAN
from shan_model.objective import RankingObjective
from shan_model.scoring import PRECISIONS


def objective_of(shan: SHAN, config: TrainConfig) -> RankingObjective:
    """The loss that a config asks for, around the model."""
    return RankingObjective(shan, config.margin, PRECISIONS[config.precision])


def take_step(
    state: TrainState,
    objective: nn.Module,
    batches: Sequence[Batch],
    config: TrainConfig,
    steps_per_epoch: int,
    rank: int = 0,
) -> tuple[Tensor, Tensor]:
    """Moves the state on by one step; DDP's ranks meet in the last of its batches.

    `objective`: `objective_of` the state's model, or DDP around it. Returns the mean loss of the batches,
    and the norm of the gradient before it was clipped.
    """
    step = state.progress.step
    hardest = takes_hardest(config, step, steps_per_epoch)
    # Dropout, where a text encoder has it, is then the same after a restart.
    torch.manual_seed(int(np.random.SeedSequence([config.seed, step, rank]).generate_state(1)[0]))
    objective.train()
    state.optimizer.zero_grad()
    losses = []
    for number, batch in enumerate(batches):
        with _apart(objective) if number + 1 < len(batches) else nullcontext():
            loss = _loss(objective, batch, hardest) / len(batches)
            loss.backward()
        losses.append(loss.detach())
    norm = nn.utils.clip_grad_norm_(objective.parameters(), config.max_grad_norm)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, step, steps_per_epoch)
    state.optimizer.step()
    if state.average:
        state.average.update_parameters(state.shan)
    state.progress.step += 1
    return torch.stack(losses).sum(), norm.detach()


def _apart(objective: nn.Module) -> AbstractContextManager[None]:
    """A backward pass whose gradients the ranks do not exchange yet."""
    return objective.no_sync() if isinstance(objective, nn.parallel.DistributedDataParallel) else nullcontext()


def _loss(objective: nn.Module, batch: Batch, hardest: bool) -> Tensor:
    device = next(objective.parameters()).device
    regions = (
        torch.from_numpy(batch.regions).to(device)
        if isinstance(batch.regions, np.ndarray)
        else [torch.from_numpy(matrix).to(device) for matrix in batch.regions]
    )
    loss: Tensor = objective(regions, batch.captions, torch.from_numpy(batch.photos).to(device), hardest)
    return loss
