"""A checkpoint is all that a training is: what goes on from one makes the same steps."""

from pathlib import Path

import pytest
import torch

from jobs.train_config import TrainConfig
from jobs.train_state import Progress, TrainState
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.objective import RankingObjective
from shan_model.vocabulary import Vocabulary

CAPTIONS = ["a dog", "two cats sleep", "a red car", "snow"]


def fresh(ema: float, seed: int = 0) -> TrainState:
    torch.manual_seed(seed)
    shan = SHAN(ModelConfig(region_dim=6, joint_dim=8, word_dim=4), Vocabulary.build(CAPTIONS))
    return TrainState(shan, TrainConfig(ema_decay=ema), torch.device("cpu"))


def steps(state: TrainState, count: int) -> None:
    objective = RankingObjective(state.shan, margin=0.2)
    for _ in range(count):
        draw = torch.Generator().manual_seed(state.progress.step)
        state.optimizer.zero_grad()
        objective(torch.randn(4, 3, 6, generator=draw), CAPTIONS, torch.arange(4), True).backward()
        state.optimizer.step()
        if state.average:
            state.average.update_parameters(state.shan)
        state.progress.step += 1


@pytest.mark.parametrize("ema", [0.0, 0.7])
@pytest.mark.parametrize("before", [0, 3])
def test_going_on_from_a_checkpoint_equals_never_having_stopped(tmp_path: Path, ema: float, before: int):
    whole, first, second = fresh(ema), fresh(ema), fresh(ema, seed=9)
    steps(whole, before + 4)
    steps(first, before)
    first.progress.history.append((1, 2, {"loss": 0.5}))
    first.save(tmp_path, {"run": "r"})
    second.load(tmp_path)
    assert second.progress == first.progress
    steps(second, 4)
    for one, other in ((whole.shan, second.shan), (whole.judged, second.judged)):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_a_training_is_finished_by_its_epochs_or_its_patience():
    config = TrainConfig(epochs=5, patience=2)
    assert not Progress(validated=4, best_epoch=3).finished(config)
    assert Progress(validated=4, best_epoch=2).finished(config)
    assert Progress(validated=5, best_epoch=5).finished(config)
    assert not Progress(validated=4, best_epoch=1).finished(TrainConfig(epochs=5))
