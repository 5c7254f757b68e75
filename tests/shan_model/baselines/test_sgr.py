"""SGRAF's similarity graph reasoning against its equations as loops."""

import numpy as np
import pytest
import torch

from shan_model.baselines import sgr
from tests.support.alignments import build_baseline, gradients, unnormalised_matrices
from tests.support.baseline_oracle import baseline_scores
from tests.support.sgr_oracle import sgr_scores, word_attention

FIELDS = {"matcher": "sgr"}
STEP = 1e-30
"""Imaginary step of a derivative: its square vanishes in float64."""


def weights_as_arrays(matcher):
    return {name: x.detach().double().numpy() for name, x in matcher.named_parameters()}


def build_sgr(dtype=torch.float64):
    """Returns a matcher whose weights, biases included, are large enough for scores of different pairs to differ."""
    matcher = build_baseline(FIELDS)
    torch.manual_seed(3)
    for parameter in matcher.parameters():
        torch.nn.init.normal_(parameter, std=4 / parameter.shape[-1] ** 0.5)
    return matcher.to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_scores_equal_the_oracle(dtype, tolerance):
    matcher = build_sgr(dtype)
    regions = unnormalised_matrices([36, 1, 100, 2, 36, 7], dtype)
    words = unnormalised_matrices([12, 1, 3, 12, 40], dtype, seed=2)
    found = matcher(regions, words)
    assert found.dtype == dtype
    assert found.std() > 0.05
    expected = baseline_scores(FIELDS, regions, words, matcher.state_dict())
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_gradients_equal_those_of_the_oracle(dtype, tolerance):
    matcher = build_sgr(dtype)
    regions, words = unnormalised_matrices([4, 2], dtype), unnormalised_matrices([3, 1], dtype, seed=2)
    found = gradients(matcher, matcher(regions, words), regions + words)
    p, inputs = weights_as_arrays(matcher), [x.detach().double().numpy() for x in regions + words]
    values = {**p, **{f"input {n}": x for n, x in enumerate(inputs)}}
    assert found.keys() == values.keys()
    draw, weights = np.random.default_rng(0), np.linspace(-1, 2, 4).reshape(2, 2)
    for name, slope in found.items():
        direction = draw.normal(size=values[name].shape)
        moved = values | {name: values[name] + STEP * 1j * direction}
        moved_inputs = [moved[f"input {n}"] for n in range(4)]
        scores = sgr_scores(moved_inputs[:2], moved_inputs[2:], moved)
        expected = float((weights * scores.imag).sum() / STEP)
        assert float((slope.double().numpy() * direction).sum()) == pytest.approx(
            expected, rel=tolerance, abs=10 * tolerance
        ), name


def test_scores_do_not_depend_on_the_chunks(monkeypatch):
    matcher = build_sgr()
    regions, words = unnormalised_matrices([4] * 7 + [2] * 3), unnormalised_matrices([3] * 5 + [2] * 4, seed=2)
    pairs = np.arange(100) % 10, np.arange(100) % 9

    def scores():
        photos, captions = matcher.photo_groups(regions), matcher.caption_groups(words)
        return torch.cat(
            [matcher.score_block(photos, captions).flatten(), matcher.score_list(photos, captions, *pairs)]
        )

    expected = scores()
    monkeypatch.setitem(sgr.CHUNK_FLOATS, "cpu", 5 * 3 * 16 * 3)  # three photos of a block, 15 pairs of a list
    found = scores()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    slopes = gradients(matcher, expected, regions + words)
    for name, slope in gradients(matcher, found, regions + words).items():
        torch.testing.assert_close(slope, slopes[name], rtol=0, atol=1e-10)


def test_word_attention_is_that_of_the_score():
    matcher = build_sgr()
    regions, (words,) = torch.stack(unnormalised_matrices([5, 5, 5])), unnormalised_matrices([4], seed=2)
    attention = matcher.word_attention(regions, words).detach()
    expected = [word_attention(v, words.detach().numpy()) for v in regions.detach().numpy()]
    torch.testing.assert_close(attention.transpose(1, 2), torch.tensor(np.array(expected)))
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(3, 4, dtype=torch.float64))
