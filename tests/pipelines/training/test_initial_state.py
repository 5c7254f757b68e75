"""The state before the first step: it depends on the seed, and pretrained text is set."""

from pathlib import Path

import numpy as np
import torch

from pipelines.training.config import TrainConfig
from pipelines.training.initial_state import initial_state
from shan_model.config import ModelConfig
from shan_model.vocabulary import Vocabulary
from tests.support.tiny_bert import write_tiny_bert

CAPTIONS = ["a red dog runs", "two cats sleep"]
SMALL = {"region_dim": 8, "joint_dim": 8, "word_dim": 4}
CPU = torch.device("cpu")


def weights(seed: int) -> dict[str, torch.Tensor]:
    return initial_state(ModelConfig(**SMALL), TrainConfig(seed=seed), CAPTIONS, None, CPU).shan.state_dict()


def test_equal_seeds_give_equal_weights_and_others_do_not():
    first, again, other = weights(1), weights(1), weights(2)
    assert all(first[name].equal(again[name]) for name in first)
    name = "text_encoder.embedding.weight"
    assert not first[name].equal(other[name])


def test_word_vectors_are_those_of_the_vocabulary():
    vectors_VE = np.random.default_rng(0).standard_normal((len(Vocabulary.build(CAPTIONS)), 3), np.float32)
    state = initial_state(ModelConfig(**SMALL, fixed_word_dim=3), TrainConfig(), CAPTIONS, vectors_VE, CPU)
    assert np.array_equal(state.shan.state_dict()["text_encoder.fixed"], vectors_VE)


def test_only_a_frozen_text_encoder_keeps_hidden_states(tmp_path: Path):
    model = ModelConfig(**SMALL, text_encoder="hf", hf_model=str(write_tiny_bert(tmp_path / "bert")))
    frozen = initial_state(model, TrainConfig(freeze_text_encoder=True), CAPTIONS, None, CPU)
    assert frozen.shan.text_encoder.states is not None
    assert initial_state(model, TrainConfig(), CAPTIONS, None, CPU).shan.text_encoder.states is None
