"""Tests of the base class of the matchers: groups, tiles, and lists of pairs."""

import numpy as np
import pytest
import torch

from shan_model import batched_matcher
from tests.shan_model.test_alignment import GATES
from tests.support.alignments import build_alignments, gradients, random_matrices

REGIONS, WORDS = [10, 3, 10, 7], [2, 5, 1, 5, 9]


@pytest.mark.parametrize("gate", GATES)
def test_scores_do_not_depend_on_the_tile_size(gate, monkeypatch):
    _, batched = build_alignments(gate=gate)
    regions, words = random_matrices([4] * 7 + [2] * 3), random_matrices([3] * 5 + [2] * 4)
    expected = batched(regions, words)
    monkeypatch.setitem(batched_matcher.TILES, "cpu", batched_matcher.Tile(3, 2))
    torch.testing.assert_close(batched(regions, words), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gate", GATES)
def test_listed_pairs_score_as_in_the_block(gate):
    _, batched = build_alignments(gate=gate)
    regions, words = random_matrices(REGIONS), random_matrices(WORDS, seed=2)
    photo_of_pair, caption_of_pair = np.array([0, 3, 3, 1, 2, 0, 0]), np.array([4, 0, 1, 1, 2, 0, 4])
    block = batched(regions, words)[photo_of_pair, caption_of_pair]
    listed = batched.score_list(
        batched.photo_groups(regions), batched.caption_groups(words), photo_of_pair, caption_of_pair
    )
    torch.testing.assert_close(listed, block, rtol=0, atol=1e-12)
    found, expected = gradients(batched, listed, regions + words), gradients(batched, block, regions + words)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-10)


def test_empty_inputs_give_an_empty_block():
    _, batched = build_alignments()
    assert batched([], random_matrices([2])).shape == (0, 1)
    assert batched(random_matrices([2]), []).shape == (1, 0)


def test_the_score_of_a_pair_does_not_depend_on_other_lengths():
    """The score of a pair is the same alone and together with longer items."""
    _, batched = build_alignments(torch.float64)
    regions, words = random_matrices([100, 10, 36]), random_matrices([1, 60, 14], seed=2)
    alone = torch.cat([torch.cat([batched([v], [t]) for t in words], dim=1) for v in regions])
    torch.testing.assert_close(batched(regions, words), alone, rtol=0, atol=1e-12)
