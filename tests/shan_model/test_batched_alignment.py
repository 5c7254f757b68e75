"""Tests of the batched alignment against the reference alignment: values and gradients of every variant."""

from itertools import product

import pytest
import torch

from tests.shan_model.test_alignment import GATES, LEVELS, OPTIONS, VARIANTS
from tests.support.alignments import build_alignments, gradients, random_matrices, require_reference

REGIONS, WORDS = [10, 3, 10], [2, 5, 1, 5]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), pytest.param(torch.float32, 1e-5, marks=pytest.mark.long)]
)
@pytest.mark.parametrize(("variant", "levels"), list(product(VARIANTS, LEVELS)))
def test_values_and_gradients_equal_the_reference(variant, levels, dtype, tolerance):
    regions, words = random_matrices(REGIONS, dtype), random_matrices(WORDS, dtype, seed=2)
    for fields in OPTIONS:
        reference, batched = build_alignments(dtype, variant=variant, levels=levels, **fields)
        require_reference(reference, batched, regions, words, tolerance)


@pytest.mark.parametrize("levels", LEVELS)
def test_gradients_agree_with_finite_differences(levels):
    _, batched = build_alignments(width=4, levels=levels)
    regions, words = random_matrices([3, 2], width=4), random_matrices([2, 1], width=4, seed=2)
    assert torch.autograd.gradcheck(lambda *x: batched(list(x[:2]), list(x[2:])), (*regions, *words), atol=1e-6)


def test_zeros_give_finite_scores_and_gradients():
    for gate in GATES:
        _, batched = build_alignments(gate=gate)
        regions, words = random_matrices([4, 4]), random_matrices([3, 1])
        with torch.no_grad():
            regions[0][1] = 0
            regions[1][:] = 0
            words[1][:] = 0
        scores = batched(regions, words)
        gradients_ = gradients(batched, scores, regions + words)
        assert torch.isfinite(scores).all()
        assert all(torch.isfinite(slope).all() for slope in gradients_.values())


def test_large_vectors_do_not_overflow():
    _, batched = build_alignments(torch.float32)
    with torch.no_grad():
        scores = batched(
            [1e3 * v for v in random_matrices(REGIONS, torch.float32)],
            [1e3 * t for t in random_matrices(WORDS, torch.float32)],
        )
    assert torch.isfinite(scores).all()
