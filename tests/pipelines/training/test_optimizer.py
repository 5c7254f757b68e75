"""Learning rates of groups of weights, by the updates that they make, and frozen weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.training.batches import Batch
from pipelines.training.checkpoint import TrainState
from pipelines.training.config import TrainConfig
from pipelines.training.optimizer import current_rates
from pipelines.training.step import objective_of, take_step
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support.tiny_bert import write_tiny_bert

CAPTIONS = ["a dog", "two cats run", "the dog runs", "a cat", "dog the dog", "two dogs running"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("hub") / "tiny")


def fresh(folder: Path, config: TrainConfig) -> TrainState:
    torch.manual_seed(0)
    model = ModelConfig(region_dim=6, joint_dim=8, text_encoder="hf", hf_model=str(folder))
    return TrainState(SHAN(model, Vocabulary.build(CAPTIONS)), config, torch.device("cpu"))


def losses_of(state: TrainState, config: TrainConfig, count: int) -> list[float]:
    """Takes some steps, each with four of the captions."""
    losses = []
    for _ in range(count):
        draw = np.random.default_rng(state.progress.step)
        captions, regions = draw.permutation(CAPTIONS)[:4].tolist(), draw.normal(size=(4, 3, 6)).astype(np.float16)
        batch = Batch(captions, np.arange(4), regions)
        losses.append(take_step(state, objective_of(state.shan, config), [batch], config, 5).loss.item())
    return losses


def copies(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.shan.state_dict().items()}


def test_one_rate_is_one_group_of_all_weights(folder: Path):
    state = fresh(folder, TrainConfig())
    (group,) = state.optimizer.param_groups
    assert list(map(id, group["params"])) == list(map(id, state.shan.parameters()))
    assert current_rates(state.optimizer, TrainConfig(text_encoder_learning_rate=1e-5)) == {"lr": 2e-4}


def test_updates_of_each_layer_have_its_rate(folder: Path):
    """The first update of Adam is the learning rate, wherever a gradient is far from 0; it is half of the warm-up."""
    config = TrainConfig(
        learning_rate=1e-2, text_encoder_learning_rate=1e-3, text_encoder_layer_decay=0.5, warmup_steps=2
    )
    state = fresh(folder, config)
    before = copies(state)
    losses_of(state, config, 1)
    updates = {name: (tensor - before[name]).abs().max().item() for name, tensor in state.shan.state_dict().items()}
    prefix = "text_encoder.encoder."
    for part, rate in (("encoder.layer.1.", 1e-3), ("encoder.layer.0.", 5e-4), ("embeddings.", 2.5e-4)):
        of_part = [update for name, update in updates.items() if name.startswith(prefix + part)]
        assert max(of_part) == pytest.approx(rate / 2, rel=0.01), part
    rest = [update for name, update in updates.items() if not name.startswith(prefix)]
    assert max(rest) == pytest.approx(5e-3, rel=0.01)
    assert updates["text_encoder.project.weight"] == pytest.approx(5e-3, rel=0.01)
    assert current_rates(state.optimizer, config) == pytest.approx({"lr": 5e-3, "text_encoder_lr": 5e-4})


def test_frozen_weights_stay_and_the_projection_trains(folder: Path):
    config = TrainConfig(freeze_text_encoder=True, ema_decay=0.7, learning_rate=1e-2)
    state = fresh(folder, config)
    before = copies(state)
    losses_of(state, config, 2)
    for after in (state.shan.state_dict(), state.evaluation_model.state_dict()):
        for name, tensor in after.items():
            is_frozen = name.startswith("text_encoder.encoder.")
            assert (tensor.numpy().tobytes() == before[name].numpy().tobytes()) == is_frozen, name
    assert current_rates(state.optimizer, config) == {"lr": 1e-2}


@pytest.mark.parametrize("limit", [2**20, 1000])
def test_kept_states_give_the_losses_of_encoding_each_step(folder: Path, limit: int):
    """BERT has dropout, which two equal losses exclude. 1,000 bytes are 15 tokens of 16 numbers."""
    config = TrainConfig(freeze_text_encoder=True, learning_rate=1e-2)
    states = [fresh(folder, config) for _ in range(2)]
    states[1].shan.text_encoder.keep_states(CAPTIONS, limit)
    encoded: list[int] = []
    states[1].shan.text_encoder.encoder.register_forward_hook(lambda *call: encoded.append(len(call[2][0])))
    each_step, kept = (losses_of(state, config, 4) for state in states)
    assert kept == pytest.approx(each_step, rel=1e-5)
    assert encoded == ([len(CAPTIONS)] if limit > 1000 else [4, 4, 4, 4])
