"""One optimizer step: Adam on the clipped mean gradient of its batches, if loss and gradient are finite."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.training.batches import Batch
from pipelines.training.checkpoint import TrainState
from pipelines.training.config import TrainConfig
from pipelines.training.divergence import divergence
from pipelines.training.schedule import learning_rate, uses_hardest_negatives
from shan_model.gather import any_over_ranks
from shan_model.model import SHAN
from shan_model.objective import RankingObjective
from shan_model.scoring import PRECISIONS


def objective_of(shan: SHAN, config: TrainConfig) -> RankingObjective:
    """Returns a module that computes the configured loss of the model."""
    return RankingObjective(shan, config.margin, PRECISIONS[config.precision])


class StepResult(NamedTuple):
    """What a step did; the tensors are scalars."""

    loss: Tensor
    """Mean loss of this rank's batches."""
    norm: Tensor
    """Norm of the gradient before clipping."""
    stop: bool
    """Whether any rank was asked to stop."""


def take_step(
    state: TrainState,
    objective: nn.Module,
    batches: Sequence[Batch],
    config: TrainConfig,
    steps_per_epoch: int,
    rank: int = 0,
    stop: bool = False,
) -> StepResult:
    """Advances the state by one step. With DDP, gradients are exchanged in the backward pass of the last batch.

    `objective` is `objective_of` the state's model, or DDP around it. `stop` is whether this rank was asked to stop.
    Raises UserError on every rank, and changes neither weights nor progress, if the loss of a rank or the gradient is
    not finite.
    """
    step = state.progress.step
    hardest = uses_hardest_negatives(config, state.progress, steps_per_epoch)
    # Seeded per step, so that the dropout of a text encoder is the same after a restart.
    torch.manual_seed(int(np.random.SeedSequence([config.seed, step, rank]).generate_state(1)[0]))
    objective.train()
    state.optimizer.zero_grad()
    losses = []
    for number, batch in enumerate(batches):
        with _without_exchange(objective) if number + 1 < len(batches) else nullcontext():
            loss = _loss(objective, batch, hardest) / len(batches)
            loss.backward()
        losses.append(loss.detach())
    norm = nn.utils.clip_grad_norm_(objective.parameters(), config.max_grad_norm)
    loss = torch.stack(losses).sum()
    # Waits for the device, as copying the next batch to it would.
    diverged, stop = any_over_ranks(~torch.isfinite(loss + norm), torch.tensor(stop, device=loss.device))
    if diverged:
        raise divergence(step, steps_per_epoch, loss.item(), norm.item(), len(batches), config)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, group["peak"], step, steps_per_epoch)
    state.optimizer.step()
    if state.average:
        state.average.update_parameters(state.shan)
    state.progress.step += 1
    return StepResult(loss, norm.detach(), stop)


def _without_exchange(objective: nn.Module) -> AbstractContextManager[None]:
    """Returns a context whose backward passes do not exchange gradients between ranks."""
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
