"""Floating-point operations against torch's counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipelines.training import flop
from shan_model import native
from shan_model.config import ModelConfig
from tests.benchmarks.gpu.sizes import TINY
from tests.benchmarks.inputs import encoded, network, sentences


@pytest.fixture
def without_native(monkeypatch):
    """torch's operations in place of the native implementation, whose products torch's counter does not see."""
    monkeypatch.setattr(native, "library", lambda: None)


def counted(function) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_flop_of_a_block_are_those_that_torch_counts(without_native):
    sizes = TINY
    model = network(sizes).eval()
    regions_BRD, words = encoded(6, 5, sizes)
    with torch.no_grad():
        found = counted(lambda: model.alignment(regions_BRD, words))
    expected = flop.all_pairs(model.config, 6, sizes.regions, [len(words_WD) for words_WD in words])
    pooling_logits = 2 * sizes.joint_dim * (2 * (6 * 4 + 50) + 6 * (5 * 4 + 50))  # matrix times vector: torch skips it
    assert expected - pooling_logits == found


def test_flop_of_the_encoders_are_those_that_torch_counts():
    model = network(TINY)
    texts = sentences(5, TINY.words)
    regions = torch.randn(6, TINY.regions, TINY.feature_dim)

    def encode():
        model.encode_photos(regions)
        model.encode_captions(texts)

    words = sum(len(model.text_encoder.tokens(text)) for text in texts)
    expected = flop.encoders(model.config, 6 * TINY.regions, words)
    assert expected == pytest.approx(counted(encode), rel=0.02)


def test_a_step_of_the_paper_is_mostly_pairs():
    config, words = ModelConfig(), [14] * 128
    step = flop.training_step(config, 36, words)
    assert flop.pair(config, 36, 14) == pytest.approx(6.8e6, rel=0.05)
    assert 0.3 < flop.all_pairs(config, 128, 36, words) / step < 0.9


def test_mfu_is_the_fraction_of_the_peak():
    config, words = ModelConfig(), [14] * 64
    of_one = flop.utilisation(config, 36, words * 2, batches_per_s=10, ranks=1, peak=1e15)
    assert of_one == pytest.approx(flop.training_step(config, 36, words * 2) * 10 / 1e15)
    assert flop.utilisation(config, 36, words, batches_per_s=10, ranks=2, peak=1e15) == pytest.approx(of_one / 2)
    assert flop.is_counted(config)
    assert not flop.is_counted(ModelConfig(matcher="vse++"))
