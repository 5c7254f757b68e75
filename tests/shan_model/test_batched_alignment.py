"""Tests of the batched and the native implementation of the alignment against the reference implementation."""

from itertools import product

import pytest
import torch
from torch.nn.functional import normalize

from shan_model import batched_matcher, native
from shan_model.alignment import Alignment
from shan_model.batched_alignment import BatchedAlignment
from shan_model.config import ModelConfig
from tests.shan_model.test_alignment import AFFINITIES, GATES, LEVELS, POOLINGS, VARIANTS

REGIONS, WORDS = [10, 3, 10, 7], [2, 5, 1, 5, 9]


def build(dtype: torch.dtype = torch.float64, width: int = 7, **fields) -> tuple[Alignment, BatchedAlignment]:
    """Both forms with the same random parameters, the biases too."""
    torch.manual_seed(0)
    config = ModelConfig(joint_dim=width, **({"temperature": 4.0, "l2l_weight": 0.2, "g2l_weight": 0.85} | fields))
    plain, fast = Alignment(config), BatchedAlignment(config)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=2 / width**0.5)
    fast.load_state_dict(plain.state_dict())
    return plain.to(dtype), fast.to(dtype)


def matrices(
    lengths: list[int], dtype: torch.dtype = torch.float64, width: int = 7, seed: int = 1
) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    vectors = [normalize(torch.randn(n, width, generator=draw, dtype=torch.float64), dim=-1).to(dtype) for n in lengths]
    return [x.requires_grad_() for x in vectors]


def plain_scores(plain: Alignment, regions: list[torch.Tensor], words: list[torch.Tensor]) -> torch.Tensor:
    """One photo at a time, so that the reference implementation meets no padding either."""
    return torch.cat([plain(photo[None], words) for photo in regions])


def gradients(module: torch.nn.Module, scores: torch.Tensor, inputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gradients of a sum of scores in which each has its own weight."""
    weights = torch.linspace(-1, 2, scores.numel(), dtype=scores.dtype).view(scores.shape)
    parameters = dict(module.named_parameters())
    found = torch.autograd.grad((scores * weights).sum(), [*parameters.values(), *inputs])
    return dict(zip([*parameters, *(f"input {n}" for n in range(len(inputs)))], found, strict=True))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("variant", "levels"), list(product(VARIANTS, LEVELS)))
def test_equals_the_plain_form_in_values_and_gradients(variant, levels, dtype, tolerance):
    regions, words = matrices(REGIONS, dtype), matrices(WORDS, dtype, seed=2)
    for affinity, gate, pooling in product(AFFINITIES, GATES, POOLINGS):
        plain, fast = build(dtype, variant=variant, levels=levels, affinity=affinity, gate=gate, l2l_pooling=pooling)
        expected, found = plain_scores(plain, regions, words), fast(regions, words)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        with torch.no_grad():
            torch.testing.assert_close(fast(regions, words), expected, rtol=tolerance, atol=tolerance)
        expected_slopes = gradients(plain, expected, regions + words)
        for name, slope in gradients(fast, found, regions + words).items():
            torch.testing.assert_close(
                slope,
                expected_slopes[name],
                rtol=tolerance,
                atol=10 * tolerance,
                msg=lambda m, name=name: f"{name}: {m}",
            )


@pytest.mark.parametrize("gate", GATES)
def test_a_list_of_pairs_equals_its_places_in_the_block(gate):
    _, fast = build(gate=gate)
    regions, words = matrices(REGIONS), matrices(WORDS, seed=2)
    photo_of_pair, caption_of_pair = torch.tensor([0, 3, 3, 1, 2, 0, 0]), torch.tensor([4, 0, 1, 1, 2, 0, 4])
    block = fast(regions, words)[photo_of_pair, caption_of_pair]
    listed = fast.score_list(fast.photo_groups(regions), fast.caption_groups(words), photo_of_pair, caption_of_pair)
    torch.testing.assert_close(listed, block, rtol=0, atol=1e-12)
    slopes, expected = gradients(fast, listed, regions + words), gradients(fast, block, regions + words)
    for name, slope in slopes.items():
        torch.testing.assert_close(slope, expected[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("levels", LEVELS)
def test_gradients_agree_with_finite_differences(levels):
    _, fast = build(width=4, levels=levels)
    regions, words = matrices([3, 2], width=4), matrices([2, 1], width=4, seed=2)
    assert torch.autograd.gradcheck(lambda *x: fast(list(x[:2]), list(x[2:])), (*regions, *words), atol=1e-6)


@pytest.mark.skipif(native.library() is None, reason="no C++ compiler: the torch form serves alone")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("width", [5, 64, 100, 192])
def test_the_compiled_form_equals_the_torch_form(width, threads):
    _, fast = build(torch.float32, width)
    regions, words = (
        matrices([1, 36, 36, 17, 100], torch.float32, width),
        matrices([1, 14, 9, 14, 40], torch.float32, width),
    )
    by_torch = fast(regions, words).detach()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with torch.no_grad():
        photos, captions = fast.photo_groups(regions), fast.caption_groups(words)
        assert photos[0].items.channels.shape[-1] == native.PANEL
        block = fast.score_block(photos, captions)
        rows, columns = torch.arange(25) // 5, torch.arange(25) % 5
        listed = fast.score_list(photos, captions, rows, columns).view(5, 5)
    torch.set_num_threads(before)
    torch.testing.assert_close(block, by_torch, rtol=0, atol=3e-6)
    torch.testing.assert_close(listed, by_torch, rtol=0, atol=3e-6)


COMPILERS = {"none": None, "fails": "exit 1", "makes nothing": "exit 0", "makes junk": 'echo junk > "${@: -2:1}"'}


@pytest.mark.parametrize("script", COMPILERS.values(), ids=COMPILERS)
def test_without_a_compiler_that_works_the_torch_form_gives_the_same_scores(script, monkeypatch, tmp_path):
    plain, fast = build(torch.float32)
    regions, words = matrices(REGIONS, torch.float32), matrices(WORDS, torch.float32, seed=2)
    compiler = tmp_path / "compiler"
    if script is not None:
        compiler.write_text(f"#!/bin/bash\n{script}\n")
        compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    native.library.cache_clear()
    try:
        with pytest.warns(UserWarning, match="native scoring cannot be compiled"):
            assert native.library() is None
        with torch.no_grad():
            assert fast.photo_groups(regions)[0].items.channels.dim() == 3
            torch.testing.assert_close(fast(regions, words), plain_scores(plain, regions, words), rtol=0, atol=1e-5)
    finally:
        native.library.cache_clear()


def test_under_autocast_nothing_is_taken_for_what_it_is_not():
    plain, fast = build(torch.float32, 128)
    regions, words = matrices(REGIONS, torch.float32, 128), matrices(WORDS, torch.float32, 128, seed=2)
    with torch.no_grad():
        expected = plain_scores(plain, regions, words)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(fast(regions, words).float(), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("gate", GATES)
def test_tiles_of_any_size_give_the_same_scores(gate, monkeypatch):
    _, fast = build(gate=gate)
    regions, words = matrices([4] * 7 + [2] * 3), matrices([3] * 5 + [2] * 4)
    expected = fast(regions, words)
    monkeypatch.setattr(batched_matcher, "TILE_PHOTOS", 3)
    monkeypatch.setattr(batched_matcher, "TILE_CAPTIONS", 2)
    torch.testing.assert_close(fast(regions, words), expected, rtol=0, atol=1e-12)


def test_another_caption_of_another_length_changes_no_score():
    """Nothing of a longer neighbour leaks: scores of a pair are the same alone and in company."""
    _, fast = build(torch.float64)
    regions, words = matrices([100, 10, 36]), matrices([1, 60, 14], seed=2)
    alone = torch.cat([torch.cat([fast([v], [t]) for t in words], dim=1) for v in regions])
    torch.testing.assert_close(fast(regions, words), alone, rtol=0, atol=1e-12)


def test_regions_and_words_of_zeros_give_finite_scores_and_gradients():
    for gate in GATES:
        _, fast = build(gate=gate)
        regions, words = matrices([4, 4]), matrices([3, 1])
        with torch.no_grad():
            regions[0][1] = 0
            regions[1][:] = 0
            words[1][:] = 0
        scores = fast(regions, words)
        slopes = gradients(fast, scores, regions + words)
        assert torch.isfinite(scores).all()
        assert all(torch.isfinite(slope).all() for slope in slopes.values())


def test_zeros_and_nans_come_through_the_compiled_form():
    """What is not a number must stay visible: no score may look right that is not."""
    _, fast = build(torch.float32)
    with torch.no_grad():
        regions, words = [v.clone() for v in matrices([4, 4, 4], torch.float32)], matrices([3, 1], torch.float32)
        regions[0][:], words[1][:] = 0, 0
        assert torch.isfinite(fast(regions, words)).all()
        regions[1][2, 3] = torch.nan
        assert torch.isnan(fast(regions, words)).tolist() == [[False] * 2, [True] * 2, [False] * 2]


def test_nothing_to_score_gives_an_empty_block():
    _, fast = build()
    assert fast([], matrices([2])).shape == (0, 1)
    assert fast(matrices([2]), []).shape == (1, 0)


def test_vectors_of_thousands_do_not_overflow():
    _, fast = build(torch.float32)
    with torch.no_grad():
        scores = fast(
            [1e3 * v for v in matrices(REGIONS, torch.float32)], [1e3 * t for t in matrices(WORDS, torch.float32)]
        )
    assert torch.isfinite(scores).all()
