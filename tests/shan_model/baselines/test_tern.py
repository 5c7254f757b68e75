"""TERN against the equations of its layers as loops: scores, derivatives, padding, and torch's fast path."""

import pytest
import torch

from shan_model import batched_matcher
from shan_model.baselines.tern import TERN
from shan_model.config import ModelConfig
from tests.support.alignments import build_baseline, gradients, unnormalised_matrices
from tests.support.baseline_oracle import baseline_scores
from tests.support.tern_oracle import attention, derivative, encoder_layer, tern_scores

FIELDS = {"matcher": "tern"}
TOLERANCES = [(torch.float64, 1e-10), (torch.float32, 1e-5)]
PADDED = batched_matcher.Tile(3, 4, listed=5, padded=True)


def as_arrays(tensors: dict[str, torch.Tensor]):
    return {name: x.detach().double().numpy() for name, x in tensors.items()}


@pytest.mark.parametrize("training", [True, False], ids=["with gradients", "fast path"])
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_scores_equal_the_oracle(dtype, tolerance, training):
    matcher = build_baseline(FIELDS, dtype).train(training)
    regions = unnormalised_matrices([36, 1, 2, 36, 7], dtype)
    words = unnormalised_matrices([12, 1, 3, 12, 20], dtype, seed=2)
    with torch.set_grad_enabled(training):
        found = matcher(regions, words)
    assert found.dtype == dtype
    expected = baseline_scores(FIELDS, regions, words, matcher.state_dict())
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_gradients_equal_the_oracle(dtype, tolerance, padded, monkeypatch):
    if padded:
        monkeypatch.setitem(batched_matcher.TILES, "cpu", PADDED)
    matcher = build_baseline(FIELDS, dtype)
    regions, words = unnormalised_matrices([5, 1, 3], dtype), unnormalised_matrices([4, 2], dtype, seed=2)
    slopes = gradients(matcher, matcher(regions, words), regions + words)
    inputs = {f"input {n}": x for n, x in enumerate(regions + words)}
    arrays = as_arrays(dict(matcher.named_parameters()) | inputs)
    weights = torch.linspace(-1, 2, 6, dtype=torch.float64).view(3, 2).numpy()

    def total(p):
        v, t = ([p[f"input {n}"] for n in positions] for positions in (range(3), range(3, 5)))
        return (tern_scores(v, t, p) * weights).sum()

    draw = torch.Generator().manual_seed(3)
    for name, slope in slopes.items():
        direction = torch.randn(slope.shape, generator=draw, dtype=torch.float64)
        direction /= direction.norm()
        expected = derivative(total, arrays, {name: direction.numpy()})
        assert abs(expected) > 1e-6, name
        assert float((slope.double() * direction).sum()) == pytest.approx(expected, rel=tolerance, abs=tolerance), name


def test_photos_pass_six_layers_and_captions_two_of_these():
    matcher = build_baseline(FIELDS)
    (regions,), (words,) = unnormalised_matrices([5]), unnormalised_matrices([4], seed=2)
    photo, caption = matcher.photo_groups([regions])[0].items.unit, matcher.caption_groups([words])[0].items.unit
    region_layers, shared = set(matcher.region_layers.parameters()), set(matcher.shared_layers.parameters())
    assert (len(matcher.region_layers.layers), len(matcher.shared_layers.layers)) == (4, 2)
    everything = set(matcher.parameters())
    assert everything == region_layers | shared | {matcher.photo_token}
    names = {parameter: name for name, parameter in matcher.named_parameters()}
    for output, expected in ((photo, everything), (caption, shared)):
        slopes = torch.autograd.grad(output.sum(), list(everything), allow_unused=True)
        used = {parameter for parameter, slope in zip(everything, slopes, strict=True) if slope is not None}
        assert {names[parameter] for parameter in used} == {names[parameter] for parameter in expected}


def test_the_published_sizes_are_those_at_the_default_width():
    layer = TERN(ModelConfig(matcher="tern")).shared_layers.layers[0]
    assert (layer.self_attn.num_heads, layer.linear1.out_features, layer.linear1.in_features) == (4, 2048, 1024)


def test_training_and_evaluation_score_the_same_network():
    matcher = build_baseline(FIELDS)
    regions, words = unnormalised_matrices([4, 2]), unnormalised_matrices([3, 5], seed=2)
    torch.testing.assert_close(matcher.train()(regions, words), matcher.eval()(regions, words), rtol=0, atol=1e-12)


def test_the_first_word_stands_for_the_caption():
    matcher = build_baseline(FIELDS)
    regions, (words,) = unnormalised_matrices([4]), unnormalised_matrices([5], seed=2)
    scores = matcher(regions, [words, words[[0, 3, 4, 1, 2]], words[[1, 0, 2, 3, 4]]])[0]
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-12)
    assert abs(scores[0] - scores[2]) > 1e-3


def test_words_attend_to_the_regions_as_the_photo_token_does():
    matcher = build_baseline(FIELDS)
    regions, (words,) = torch.stack(unnormalised_matrices([5, 5, 5])), unnormalised_matrices([4], seed=2)
    found = matcher.word_attention(regions, words)
    assert found.shape == (3, 5, 4)
    p = as_arrays(matcher.state_dict())
    for v, weights_RW in zip(regions.detach().numpy(), found, strict=True):
        x = torch.cat([matcher.photo_token[None], torch.from_numpy(v)]).detach().numpy()
        for name in (*(f"region_layers.layers.{n}" for n in range(4)), "shared_layers.layers.0"):
            x = encoder_layer(x, p, name)
        _, weights_NHN = attention(x, p, "shared_layers.layers.1.self_attn")
        expected_R = torch.from_numpy(weights_NHN[0].mean(axis=0)[1:])
        expected_R /= expected_R.sum()
        torch.testing.assert_close(weights_RW, expected_R[:, None].expand(-1, 4), rtol=0, atol=1e-10)


@pytest.mark.parametrize("width", [6, 1023])
def test_a_width_that_heads_cannot_divide_is_refused(width):
    with pytest.raises(ValueError, match=rf"^model\.joint_dim is {width}; it must be a multiple of 4 for "):
        ModelConfig(matcher="tern", joint_dim=width)
    ModelConfig(joint_dim=width)
