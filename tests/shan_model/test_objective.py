"""Tests of the mined loss against the loss over all pairs of the reference implementation."""

import pytest
import torch

from shan_model.loss import hardest_negatives, ranking_loss
from shan_model.objective import RankingObjective, mined_ranking_loss
from tests.support.alignments import build_alignments, gradients, random_matrices, reference_scores

LENGTHS = [2, 5, 3, 5, 9, 2, 7, 5]
BATCHES = {
    "all different": [0, 1, 2, 3, 4, 5, 6, 7],
    "two captions of a photo": [0, 0, 2, 3, 3, 3, 6, 7],
    "one photo only": [4] * 8,
}


@pytest.mark.parametrize("margin", [0.01, 0.2, 5.0], ids=["few violations", "the paper's", "all violate"])
@pytest.mark.parametrize("gate", ["vector", "scalar"])
@pytest.mark.parametrize("photos", BATCHES.values(), ids=BATCHES)
def test_mined_pairs_give_the_loss_and_gradients_of_all_pairs(photos, gate, margin):
    plain, fast = build_alignments(gate=gate)
    # Rows of one photo tie exactly; any split of the slope between them is right.
    photo = {n: random_matrices([6], seed=n)[0] for n in photos}
    regions = [photo[n] for n in photos]
    words, photo_of_row = random_matrices(LENGTHS, seed=2), torch.tensor(photos)
    expected = ranking_loss(reference_scores(plain, regions, words), photo_of_row, margin=margin)
    found = mined_ranking_loss(fast, regions, words, photo_of_row, margin=margin)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    slopes, expected_slopes = gradients(fast, found, regions + words), gradients(plain, expected, regions + words)
    for name, slope in slopes.items():
        torch.testing.assert_close(slope, expected_slopes[name], rtol=1e-9, atol=1e-9)


def test_float32_gradients_of_a_wide_batch():
    """D 256, 36 regions, words 8 to 20: within 1e-4 of the reference, relative to each tensor's largest gradient."""
    plain, fast = build_alignments(torch.float32, 256, temperature=15.0)
    regions, words = (
        random_matrices([36] * 12, torch.float32, 256),
        random_matrices(list(range(8, 20)), torch.float32, 256, seed=2),
    )
    rows = torch.arange(12)
    expected = ranking_loss(plain(torch.stack(regions), words), rows)
    found = mined_ranking_loss(fast, regions, words, rows, margin=0.2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    slopes, expected_slopes = gradients(fast, found, regions + words), gradients(plain, expected, regions + words)
    for name, slope in slopes.items():
        scale = expected_slopes[name].abs().max().clamp(min=1e-6)
        assert (slope - expected_slopes[name]).abs().max() <= 1e-4 * scale, name


def test_negatives_exclude_own_photo_and_are_two_at_most():
    draw = torch.Generator().manual_seed(0)
    scores, photos = torch.randn(50, 50, generator=draw), torch.randint(20, (50,), generator=draw)
    found = hardest_negatives(scores, photos, margin=0.2)
    assert len(found.row) <= 100
    assert (photos[found.photo] != photos[found.caption]).all()
    cost = (0.2 - scores.diagonal()[found.row] + scores[found.photo, found.caption]).clamp(min=0).sum()
    torch.testing.assert_close(cost, ranking_loss(scores, photos))


@pytest.mark.parametrize("hardest", [True, False])
def test_every_parameter_has_a_gradient_without_violations(model, captions, hardest):
    """DDP waits for the gradient of every parameter."""
    objective = RankingObjective(model, margin=1e-9)
    same_photo = torch.zeros(4, dtype=torch.int64)
    loss = objective(torch.randn(4, 3, 12), captions, same_photo, hardest)
    loss.backward()
    assert loss == 0
    assert all(p.grad is not None for p in objective.parameters())


def test_the_objective_is_the_loss_of_the_models_scores(model, captions):
    regions, photos = torch.randn(4, 3, 12), torch.tensor([0, 1, 1, 2])
    for hardest in (True, False):
        loss = RankingObjective(model, margin=0.2)(regions, captions, photos, hardest)
        torch.testing.assert_close(loss, ranking_loss(model(regions, captions), photos, hardest=hardest))
