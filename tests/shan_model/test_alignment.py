"""Tests of the reference alignment against `tests.support.oracle`, which implements the equations independently."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from shan_model.alignment import Alignment, cosine
from shan_model.config import ModelConfig
from tests.support import oracle

D = 5
VARIANTS, LEVELS = ("full", "t2i", "i2t"), ("l2l", "l2l+g2l", "l2l+g2l+g2g")
GATES = ("vector", "scalar")
OPTIONS = [
    {"affinity": affinity, "gate": gate, "l2l_pooling": pooling, "gate_per_level": per_level}
    for affinity, gate, (pooling, per_level) in product(
        ("bilinear", "cosine"), GATES, [("mean", False), ("sum", True), ("mean", True)]
    )
]
NAMES = {  # state_dict: oracle
    "project_regions.weight": "region_projection",
    "project_words.weight": "word_projection",
    "image_branch.gate.weight": "region_gate",
    "image_branch.gate.bias": "region_gate_bias",
    "image_branch.pool.weight": "region_pool",
    "text_branch.gate.weight": "word_gate",
    "text_branch.gate.bias": "word_gate_bias",
    "text_branch.pool.weight": "word_pool",
}


def build(seed=0, dtype=torch.float64, **fields) -> Alignment:
    """Returns an alignment whose parameters, including biases, are random and not negligible."""
    torch.manual_seed(seed)
    alignment = Alignment(ModelConfig(joint_dim=D, **fields))
    for parameter in alignment.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    return alignment.to(dtype)


def inputs(images, regions, lengths, dtype=torch.float64, unit=True):
    draw = torch.Generator().manual_seed(images + regions + sum(lengths))
    shapes = [(images, regions, D), *((length, D) for length in lengths)]
    tensors = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
    tensors = [(normalize(x, dim=-1) if unit else x).to(dtype) for x in tensors]
    return tensors[0], tensors[1:]


def parameters_of(alignment):
    arrays = {NAMES[name]: value.double().numpy().copy() for name, value in alignment.state_dict().items()}
    return {name: array[0] if name.endswith("_pool") else array for name, array in arrays.items()}


def oracle_pair(config, parameters, v, t):
    return oracle.pair_score(
        v,
        t,
        parameters,
        variant=config.variant,
        levels=config.levels.split("+"),
        affinity_kind={"bilinear": "dot", "cosine": "cosine"}[config.affinity],
        l2l_pooling=config.l2l_pooling,
        temperature=config.temperature,
        mu1=config.l2l_weight,
        mu2=config.g2l_weight,
        scales=(config.g2l_scale, config.g2g_scale),
        context_temperature=config.context_temperature,
        gates=2 if config.gate_per_level and config.levels == "l2l+g2l+g2g" else 1,
    )


def oracle_scores(alignment, regions, words):
    parameters = parameters_of(alignment)
    rows = [
        [oracle_pair(alignment.config, parameters, v.double().numpy(), t.double().numpy()) for t in words]
        for v in regions
    ]
    return np.array(rows)


def assert_equals_oracle(alignment, regions, words, tolerance):
    with torch.no_grad():
        scores = alignment(regions, words)
    assert scores.shape == (len(regions), len(words))
    assert scores.dtype == regions.dtype
    expected = oracle_scores(alignment, regions, words)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("variant", "levels"), list(product(VARIANTS, LEVELS)))
def test_scores_equal_the_oracle_in_every_variant(variant, levels, dtype, tolerance):
    regions, words = inputs(2, 4, [1, 6, 3], dtype)
    for fields in OPTIONS:
        # Weights and temperature away from their defaults: 0.5 would hide a swapped mu2.
        weights = {"l2l_weight": 0.2, "g2l_weight": 0.85, "g2l_scale": 0.4, "g2g_scale": 0.7}
        weights |= {"temperature": 4.0, "context_temperature": 3.0}
        alignment = build(dtype=dtype, variant=variant, levels=levels, **fields, **weights)
        assert_equals_oracle(alignment, regions, words, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("images", "regions", "lengths"),
    [
        pytest.param(1, 36, [14], id="one image, one caption"),
        pytest.param(1, 1, [1], id="one of everything"),
        pytest.param(3, 1, [1, 2], id="one region"),
        pytest.param(2, 10, [1, 60, 2], id="long caption"),
        pytest.param(2, 36, [3, 1, 12], id="36 regions"),
    ],
)
def test_scores_equal_the_oracle_at_every_size(images, regions, lengths, dtype, tolerance):
    assert ModelConfig().temperature == 15
    assert (ModelConfig().l2l_weight, ModelConfig().g2l_weight) == (0.3, 0.5)
    assert_equals_oracle(build(dtype=dtype), *inputs(images, regions, lengths, dtype), tolerance)


def test_scores_equal_the_oracle_for_vectors_of_any_norm():
    """The alignment does not rely on the normalisation by the encoders."""
    for variant in VARIANTS:
        assert_equals_oracle(build(variant=variant), *inputs(2, 4, [1, 5], unit=False), 1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("fields", [OPTIONS[0], OPTIONS[1], OPTIONS[-1]])
def test_gradients_equal_finite_differences_of_the_oracle(variant, fields):
    alignment = build(variant=variant, temperature=3.0, **fields)
    regions, words = inputs(1, 3, [4], unit=False)
    regions.requires_grad_()
    words[0].requires_grad_()
    alignment(regions, words).sum().backward()
    v, t = regions[0].detach().numpy(), words[0].detach().numpy()
    places = parameters_of(alignment)
    gradients = {NAMES[name]: p.grad.numpy() for name, p in alignment.named_parameters()}
    gradients |= {"v": regions.grad[0].numpy(), "t": words[0].grad.numpy()}

    def nudged(name, at, by):
        arrays = {**places, "v": v, "t": t}
        arrays[name] = arrays[name].copy()
        arrays[name].flat[at] += by
        return oracle_pair(alignment.config, arrays, arrays["v"], arrays["t"])

    draw = np.random.default_rng(0)
    for name, gradient in gradients.items():
        for at in draw.choice(gradient.size, size=min(4, gradient.size), replace=False):
            slope = (nudged(name, at, 1e-5) - nudged(name, at, -1e-5)) / 2e-5
            assert gradient.flat[at] == pytest.approx(slope, abs=1e-8), f"{name}[{at}]"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_score_of_a_pair_does_not_depend_on_its_block(variant):
    alignment = build(variant=variant)
    regions, words = inputs(3, 6, [2, 1, 40, 9])
    with torch.no_grad():
        block = alignment(regions, words)
        alone = torch.cat([torch.cat([alignment(v[None], [t]) for t in words], dim=1) for v in regions])
    torch.testing.assert_close(block, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_are_invariant_to_the_order_of_regions_and_words(variant):
    """The alignment has no positional information."""
    alignment = build(variant=variant)
    regions, words = inputs(2, 9, [5, 7])
    with torch.no_grad():
        scores = alignment(regions, words)
        shuffled = alignment(regions[:, torch.randperm(9)], [t[torch.randperm(len(t))] for t in words])
    torch.testing.assert_close(scores, shuffled, rtol=0, atol=1e-12)


def test_scores_follow_the_order_of_images_and_captions():
    alignment = build()
    regions, words = inputs(3, 4, [2, 5, 1])
    with torch.no_grad():
        scores, turned = alignment(regions, words), alignment(regions.flip(0), words[::-1])
    torch.testing.assert_close(turned, scores.flip(0, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("variant", "levels", "gate", "per_level"), list(product(VARIANTS, LEVELS, GATES, [0, 1])))
def test_only_enabled_steps_have_parameters(variant, levels, gate, per_level):
    alignment = build(variant=variant, levels=levels, gate=gate, gate_per_level=bool(per_level))
    expected = {"project_regions.weight", "project_words.weight"}
    for branch, variants in (("image_branch", ("full", "i2t")), ("text_branch", ("full", "t2i"))):
        if "g2l" in levels and variant in variants:
            expected |= {f"{branch}.gate.weight", f"{branch}.gate.bias", f"{branch}.pool.weight"}
    parameters = dict(alignment.named_parameters())
    assert set(parameters) == expected
    alignment(*inputs(2, 4, [3, 5])).sum().backward()
    slopes = [slope for p in parameters.values() for slope in p.grad.chunk(2)]  # those of two gates, for instance
    assert all(slope.abs().max() > 0 for slope in slopes)


def test_the_gate_has_the_width_of_its_kind():
    assert build(gate="vector").image_branch.gate.weight.shape == (D, 2 * D)
    assert build(gate="scalar").image_branch.gate.weight.shape == (1, 2 * D)
    assert build(gate_per_level=True).image_branch.gate.weight.shape == (2 * D, 2 * D)


@pytest.mark.parametrize("affinity_init", ["identity", "xavier"])
def test_initial_values_are_those_of_the_config(affinity_init):
    torch.manual_seed(0)
    alignment = Alignment(ModelConfig(joint_dim=64, affinity_init=affinity_init))
    for name, value in alignment.state_dict().items():
        if name.endswith("bias"):
            assert not value.any(), name
        elif name.startswith("project") and affinity_init == "identity":
            assert torch.equal(value, torch.eye(64)), name
        else:
            bound = (6 / sum(value.shape)) ** 0.5
            assert 0.9 * bound < value.abs().max() <= bound, name


def test_level_scores_sum_to_the_score():
    alignment = build(g2l_scale=0.4, g2g_scale=0.7)
    regions, (words,) = inputs(2, 4, [5])
    levels = alignment.level_scores(regions, words)
    assert list(levels) == ["S_L2L", "S_G2L", "S_G2G"]
    torch.testing.assert_close(sum(levels.values()), alignment(regions, [words])[:, 0], rtol=0, atol=1e-12)


def test_scores_are_within_the_range_of_their_sum_of_cosines():
    regions, words = inputs(4, 10, [1, 8, 20])
    for levels, bound in zip(LEVELS, (1, 2, 3), strict=True):
        assert build(levels=levels)(regions, words).abs().max() <= bound


def test_large_affinities_do_not_overflow():
    regions, words = inputs(2, 4, [3, 5], torch.float32, unit=False)
    scores = build(dtype=torch.float32)(1e3 * regions, [1e3 * t for t in words])
    assert torch.isfinite(scores).all()


def test_a_region_of_zeros_gives_finite_scores_and_gradients():
    regions, words = inputs(2, 4, [3, 1])
    regions[0, 1] = 0
    regions.requires_grad_()
    scores = build()(regions, words)
    scores.sum().backward()
    assert torch.isfinite(scores).all()
    assert torch.isfinite(regions.grad).all()


def test_cosine_of_a_zero_vector_is_zero():
    assert cosine(torch.zeros(3), torch.ones(3)) == 0
    assert cosine(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])) == pytest.approx(24 / 25)
