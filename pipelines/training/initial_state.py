"""The state that a training starts from."""

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.features.texts import Texts
from pipelines.training.checkpoint import TrainState
from pipelines.training.config import TrainConfig
from shan_model.config import ModelConfig
from shan_model.encoders import GruEncoder
from shan_model.hf_encoder import HuggingFaceEncoder
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary

KEPT_STATES_BYTES = 4 * 2**30
"""Largest size of the hidden states of captions that a worker keeps for a frozen text encoder."""


def initial_state(
    model: ModelConfig,
    config: TrainConfig,
    captions: Texts,
    word_vectors: NDArray[np.float32] | None,
    device: torch.device,
) -> TrainState:
    """Returns the state before the first step; equal arguments give equal weights.

    `captions` are those of the `train` split. `word_vectors` has one row per word of their vocabulary, or is None if
    the model has no fixed embedding.
    """
    torch.manual_seed(config.seed)
    shan = SHAN(model, Vocabulary.build(captions, config.min_word_count))
    if word_vectors is not None:
        assert isinstance(shan.text_encoder, GruEncoder)
        shan.text_encoder.set_fixed(word_vectors)
    state = TrainState(shan, config, device)
    if isinstance(shan.text_encoder, HuggingFaceEncoder) and config.freeze_text_encoder:
        shan.text_encoder.keep_states(captions, KEPT_STATES_BYTES)
    return state
