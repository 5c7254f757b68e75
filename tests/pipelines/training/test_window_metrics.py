"""MFU of a window. The other metrics are scraped from a training in tests/e2e/test_train_options.py."""

import time

import numpy as np
import pytest
import torch

from pipelines.training.batches import Batch
from pipelines.training.checkpoint import TrainState
from pipelines.training.config import TrainConfig
from pipelines.training.flop import training_step
from pipelines.training.metric_window import MetricWindow
from pipelines.training.window_metrics import mfu_of
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary


def window(mined: bool = True) -> MetricWindow:
    batch = Batch(["a dog", "a cat sits"], np.arange(2), np.zeros((2, 3, 8), np.float16))
    return MetricWindow(batches=5, last=batch, is_mined=mined, start=time.perf_counter() - 10)


def state(**fields: object) -> TrainState:
    config = ModelConfig(region_dim=8, joint_dim=8, word_dim=4, **fields)  # type: ignore[arg-type]
    return TrainState(SHAN(config, Vocabulary.build(["a dog a cat sits"], 1)), TrainConfig(), torch.device("cpu"))


def test_mfu_is_that_of_the_steps_in_the_window():
    trained = state()
    encoder = trained.shan.text_encoder
    words = [len(encoder.tokens(caption)) for caption in ("a dog", "a cat sits")]
    expected = training_step(trained.shan.config, 3, words) * 0.5 / 1e6
    assert mfu_of(window(), trained, 1, 1e6) == pytest.approx(expected, rel=0.01)


def test_mfu_is_unknown_without_a_peak_or_a_count():
    assert mfu_of(window(), state(), 1, None) is None
    assert mfu_of(window(mined=False), state(), 1, 1e6) is None
    assert mfu_of(window(), state(matcher="vse++"), 1, 1e6) is None
