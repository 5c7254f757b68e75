"""One optimizer step against its definition: mean gradient of the batches, its norm, clipping, Adam."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from infra.errors import UserError
from pipelines.training.batches import Batch
from pipelines.training.checkpoint import TrainState
from pipelines.training.config import TrainConfig
from pipelines.training.step import objective_of, take_step
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.objective import RankingObjective
from shan_model.vocabulary import Vocabulary

CAPTIONS = ["a dog", "two cats sleep", "a red car", "snow"]


def fresh(config: TrainConfig) -> TrainState:
    torch.manual_seed(0)
    shan = SHAN(ModelConfig(region_dim=6, joint_dim=8, word_dim=4), Vocabulary.build(CAPTIONS))
    return TrainState(shan, config, torch.device("cpu"))


def batch(seed: int) -> Batch:
    regions = np.random.default_rng(seed).normal(size=(4, 3, 6)).astype(np.float16)
    return Batch(CAPTIONS, np.arange(4), regions)


def gradients(shan: SHAN, one: Batch, margin: float) -> tuple[float, dict[str, torch.Tensor]]:
    """Returns loss and gradients of one batch, with a copy of the model."""
    own = deepcopy(shan)
    loss = loss_of(RankingObjective(own, margin), one, hardest=True)
    loss.backward()
    return loss.item(), {name: parameter.grad for name, parameter in own.named_parameters()}


def loss_of(objective: RankingObjective, one: Batch, hardest: bool) -> torch.Tensor:
    return objective(torch.from_numpy(one.regions), one.captions, torch.from_numpy(one.photos), hardest)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("max_grad_norm", [1e-2, 1e3])
def test_step_is_adam_on_the_clipped_mean_gradient(count: int, max_grad_norm: float):
    config = TrainConfig(
        gradient_accumulation_steps=count, max_grad_norm=max_grad_norm, learning_rate=1e-2, warmup_steps=4,
        hard_negative_warmup_epochs=0,
    )  # fmt: skip
    state = fresh(config)
    before = {name: parameter.detach().clone() for name, parameter in state.shan.named_parameters()}
    batches = [batch(seed) for seed in range(count)]
    alone = [gradients(state.shan, one, config.margin) for one in batches]
    mean = {name: sum(grads[name] for _, grads in alone) / count for name in before}
    norm = sum(gradient.square().sum() for gradient in mean.values()).sqrt().item()

    loss, returned, stop = take_step(state, objective_of(state.shan, config), batches, config, steps_per_epoch=10)

    assert loss.item() == pytest.approx(sum(loss for loss, _ in alone) / count, rel=1e-5)
    assert returned.item() == pytest.approx(norm, rel=1e-5)
    assert (state.progress.step, stop) == (1, False)
    scale = min(1.0, max_grad_norm / norm)
    for name, parameter in state.shan.named_parameters():
        gradient = scale * mean[name]
        # Adam's first moments, corrected for their bias, are the gradient and its square; one of 4 warm-up steps.
        expected = before[name] - 1e-2 / 4 * gradient / (gradient.abs() + 1e-8)
        reached = gradient.abs() > 1e-6  # below it rounding decides the sign that Adam blows up
        assert torch.allclose(parameter[reached], expected[reached], rtol=0, atol=2e-5), name
    assert (norm > max_grad_norm) == (max_grad_norm < 1)
    moments = [state.optimizer.state[parameter]["exp_avg"] for parameter in state.shan.parameters()]
    length = sum(moment.square().sum() for moment in moments).sqrt().item() / 0.1
    assert length == pytest.approx(min(norm, max_grad_norm), rel=1e-4)


def test_hardest_negatives_follow_the_warmup():
    config = TrainConfig(hard_negative_warmup_epochs=1)
    state = fresh(config)
    for step, hardest in ((0, False), (9, False), (10, True)):
        state.progress.step = step
        expected = loss_of(RankingObjective(deepcopy(state.shan), config.margin), batch(0), hardest)
        loss = take_step(state, objective_of(state.shan, config), [batch(0)], config, steps_per_epoch=10).loss
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_evaluation_model_is_the_moving_average_of_the_weights():
    """It starts at the weights of the first step."""
    config = TrainConfig(ema_decay=0.75, learning_rate=1e-2, hard_negative_warmup_epochs=0)
    state, seen = fresh(config), []
    for seed in range(3):
        take_step(state, objective_of(state.shan, config), [batch(seed)], config, steps_per_epoch=10)
        seen.append({name: tensor.clone() for name, tensor in state.shan.state_dict().items()})
    for name, tensor in state.evaluation_model.named_parameters():
        expected = 0.75 * (0.75 * seen[0][name] + 0.25 * seen[1][name]) + 0.25 * seen[2][name]
        assert torch.allclose(tensor, expected, atol=1e-6), name
        assert not torch.allclose(tensor, seen[2][name], atol=1e-6), name


def test_bf16_rounds_the_same_loss_differently():
    state = fresh(TrainConfig())
    narrow, wide = (
        loss_of(objective_of(state.shan, TrainConfig(precision=name)), batch(0), hardest=False)
        for name in ("bf16", "fp32")
    )
    assert narrow.dtype == wide.dtype == torch.float32
    assert narrow.item() != wide.item()
    assert narrow.item() == pytest.approx(wide.item(), rel=0.05)


class TimesNan(nn.Module):
    """An objective whose loss is not finite, but whose gradient is 0."""

    def __init__(self, objective: RankingObjective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, *inputs: object) -> torch.Tensor:
        return 0 * self.objective(*inputs) + torch.nan


def require_unchanged_step(state: TrainState, objective: nn.Module, config: TrainConfig, message: str) -> None:
    """Checks that a step is refused with the message, and that weights, average, moments and progress stay."""
    take_step(state, objective_of(state.shan, config), [batch(0)], config, steps_per_epoch=10)
    before = deepcopy([state.shan.state_dict(), state.average.module.state_dict(), state.optimizer.state_dict()])
    with pytest.raises(UserError, match=message):
        take_step(state, objective, [batch(1)], config, steps_per_epoch=10)
    after = [state.shan.state_dict(), state.average.module.state_dict(), state.optimizer.state_dict()]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert state.progress.step == 1


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_non_finite_gradient_changes_nothing(bad: float):
    config = TrainConfig(ema_decay=0.9, hard_negative_warmup_epochs=0)
    state = fresh(config)
    objective = objective_of(deepcopy(state.shan), config)
    objective.model.image_encoder.project.weight.register_hook(lambda gradient: gradient * bad)
    message = r"diverged at step 2 \(epoch 1, batch 2\): the loss is \d[\d.]* and the norm of the gradient (nan|inf)"
    require_unchanged_step(state, objective, config, message)


def test_step_with_a_loss_that_is_not_finite_changes_nothing():
    config = TrainConfig(ema_decay=0.9, hard_negative_warmup_epochs=0)
    state = fresh(config)
    require_unchanged_step(state, TimesNan(objective_of(state.shan, config)), config, "the loss is nan and the norm")


def distributed_steps(rank: int, folder: str) -> None:
    """Takes a step after which rank 1 asks to stop, then one whose loss is NaN on rank 1 only."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    config = TrainConfig(batch_size=4, hard_negative_warmup_epochs=0)
    state = fresh(config)
    ddp = nn.parallel.DistributedDataParallel(objective_of(state.shan, config))
    found = str(take_step(state, ddp, [batch(rank)], config, 10, rank, stop=rank == 1).stop)
    objective = TimesNan(ddp) if rank else ddp
    try:
        take_step(state, objective, [batch(rank)], config, 10, rank)
    except UserError as error:
        found += f"\n{error}\n{state.progress.step}"
    Path(folder, str(rank)).write_text(found)
    dist.destroy_process_group()


def test_ranks_agree_on_stop_and_non_finite_loss(tmp_path: Path):
    torch.multiprocessing.set_forkserver_preload([__name__])
    torch.multiprocessing.start_processes(distributed_steps, (str(tmp_path),), nprocs=2, start_method="forkserver")
    stop, error, step = (tmp_path / "0").read_text().splitlines()
    assert (stop, step) == ("True", "1")
    assert error.startswith("the training diverged at step 2 (epoch 1, batch 2): the loss is nan and the norm of the")
    assert (tmp_path / "1").read_text() == (tmp_path / "0").read_text()
