"""Tests of the way GPUs score, on a CPU: items of similar size padded together, gates in products of many pairs."""

from itertools import product

import pytest
import torch

from shan_model import batched_matcher, gate_fuse_pool, native
from shan_model.loss import ranking_loss
from shan_model.objective import mined_ranking_loss
from tests.shan_model.test_alignment import GATES, LEVELS, OPTIONS, VARIANTS
from tests.support.alignments import (
    build_alignments,
    build_baseline,
    gradients,
    random_matrices,
    reference_scores,
    require_reference,
    unnormalised_matrices,
)
from tests.support.baseline_oracle import BASELINES, baseline_scores

REGIONS, WORDS = [10, 3, 10, 7], [2, 5, 1, 5, 9, 1]


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setitem(batched_matcher.TILES, "cpu", batched_matcher.Tile(3, 4, listed=5, padded=True))
    monkeypatch.setitem(gate_fuse_pool.CHUNK_FLOATS, "cpu", 7 * 10 * 3)
    monkeypatch.setattr(gate_fuse_pool, "FUSED", {"cpu"})


def test_items_of_similar_size_are_padded_together():
    _, batched = build_alignments()
    groups = batched.caption_groups(random_matrices(WORDS))
    assert [group.rows for group in groups] == [[2, 5, 0, 1], [3, 4]]
    assert [tuple(group.items.padding.shape) for group in groups] == [(4, 5), (2, 9)]
    assert (groups[1].items.padding[0] == 0).tolist() == [True] * 5 + [False] * 4


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), pytest.param(torch.float32, 1e-5, marks=pytest.mark.long)]
)
@pytest.mark.parametrize(("variant", "levels"), list(product(VARIANTS, LEVELS)))
def test_values_and_gradients_equal_the_reference(variant, levels, dtype, tolerance):
    regions, words = random_matrices(REGIONS, dtype), random_matrices(WORDS, dtype, seed=2)
    for fields in OPTIONS:
        reference, batched = build_alignments(dtype, variant=variant, levels=levels, **fields)
        require_reference(reference, batched, regions, words, tolerance)


@pytest.mark.parametrize("gate", GATES)
def test_the_mined_loss_is_that_of_all_pairs(gate):
    reference, batched = build_alignments(gate=gate)
    regions, words = random_matrices([6, 4, 6, 3, 5, 6, 6, 6]), random_matrices([2, 5, 3, 5, 9, 2, 7, 5], seed=2)
    photo_of_row = torch.tensor([0, 1, 2, 3, 3, 4, 5, 6])
    expected = ranking_loss(reference_scores(reference, regions, words), photo_of_row)
    found = mined_ranking_loss(batched, regions, words, photo_of_row, margin=0.2)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    slopes = gradients(batched, found, regions + words)
    for name, slope in gradients(reference, expected, regions + words).items():
        torch.testing.assert_close(slopes[name], slope, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("fields", BASELINES.values(), ids=BASELINES)
def test_baselines_equal_the_oracle(fields, dtype, tolerance, monkeypatch):
    matcher = build_baseline(fields, dtype)
    regions = unnormalised_matrices([36, 1, 100, 2, 36, 7], dtype)
    words = unnormalised_matrices([12, 1, 3, 12, 40], dtype, seed=2)
    found = matcher(regions, words)
    expected = baseline_scores(fields, regions, words, matcher.state_dict())
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        torch.testing.assert_close(matcher.eval()(regions, words).double(), expected, rtol=tolerance, atol=tolerance)
    monkeypatch.setitem(batched_matcher.TILES, "cpu", batched_matcher.Tile(3, 4))
    unpadded = gradients(matcher, matcher(regions, words), regions + words)
    for name, slope in gradients(matcher, found, regions + words).items():
        torch.testing.assert_close(slope, unpadded[name], rtol=10 * tolerance, atol=100 * tolerance)


@pytest.mark.parametrize("gate", GATES)
def test_items_of_zeros_give_finite_scores_and_gradients(gate):
    _, batched = build_alignments(gate=gate)
    regions, words = random_matrices([4, 2]), random_matrices([3, 1])
    with torch.no_grad():
        regions[0][1] = 0
        words[1][:] = 0
    scores = batched(regions, words)
    assert torch.isfinite(scores).all()
    assert all(torch.isfinite(slope).all() for slope in gradients(batched, scores, regions + words).values())


def test_scores_with_bfloat16_products_are_close():
    _, batched = build_alignments(torch.float32, 64)
    regions, words = random_matrices([36, 20, 36], torch.float32, 64), random_matrices([12, 9, 5], torch.float32, 64)
    photos, captions = batched.photo_groups(regions), batched.caption_groups(words)
    exact, rough = batched.score_block(photos, captions), batched.score_block(photos, captions, torch.bfloat16)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0, atol=0.01)
