"""Tests of the loss (Eq. 17) against loops."""

import pytest
import torch

from shan_model.loss import ranking_loss

PHOTOS = {
    "all different": [0, 1, 2, 3, 4, 5],
    "pairs": [7, 7, 2, 2, 9, 9],
    "uneven": [3, 3, 3, 1, 0, 1],
    "all the same": [4] * 6,
    "batch of one": [5],
}


def loss_by_hand(scores, photos, margin, hardest):
    total = 0.0
    for i in range(len(photos)):
        negatives = [j for j in range(len(photos)) if photos[j] != photos[i]]
        texts = [max(0.0, margin - scores[i][i] + scores[i][j]) for j in negatives]
        images = [max(0.0, margin - scores[i][i] + scores[j][i]) for j in negatives]
        if negatives:
            total += max(texts) + max(images) if hardest else (sum(texts) + sum(images)) / len(negatives)
    return total


@pytest.mark.parametrize("hardest", [True, False])
@pytest.mark.parametrize("photos", PHOTOS.values(), ids=PHOTOS.keys())
def test_the_loss_equals_the_reference_loops(photos, hardest):
    torch.manual_seed(0)
    for margin in (0.05, 0.2, 1.0):
        scores = torch.randn(len(photos), len(photos), dtype=torch.float64)
        loss = ranking_loss(scores, torch.tensor(photos), margin=margin, hardest=hardest)
        assert loss.item() == pytest.approx(loss_by_hand(scores.tolist(), photos, margin, hardest), abs=1e-12)


def test_defaults_are_those_of_the_paper():
    scores, photos = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    expected = loss_by_hand(scores.tolist(), photos.tolist(), margin=0.2, hardest=True)
    assert ranking_loss(scores, photos).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("hardest", [True, False])
@pytest.mark.parametrize("photos", [[1], [3, 3, 3]])
def test_without_negatives_loss_and_gradient_are_zero(photos, hardest):
    scores = torch.zeros(len(photos), len(photos), requires_grad=True)
    loss = ranking_loss(scores, torch.tensor(photos), hardest=hardest)
    loss.backward()
    assert loss == 0
    assert not scores.grad.any()


@pytest.mark.parametrize("hardest", [True, False])
def test_captions_of_one_photo_are_never_negatives(hardest):
    """Rows 0 and 1 have the same photo, so their mutual scores have no effect."""
    scores, photos = torch.rand(4, 4), torch.tensor([8, 8, 1, 2])
    loss = ranking_loss(scores, photos, hardest=hardest)
    scores[0, 1], scores[1, 0] = 100.0, 100.0
    assert ranking_loss(scores, photos, hardest=hardest) == loss


def test_only_positives_and_the_hardest_have_a_gradient():
    scores = torch.tensor([[0.5, 0.4, 0.6], [0.1, 0.9, 0.3], [0.2, 0.45, 0.5]], requires_grad=True)
    # Captions: row 0 is violated most by column 2, row 2 by column 1 (0.15); row 1 by none.
    # Photos: column 2 is violated most by row 0 (0.3); columns 0 and 1 by none.
    ranking_loss(scores, torch.arange(3), margin=0.2).backward()
    expected = torch.tensor([[-1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 1.0, -2.0]])
    torch.testing.assert_close(scores.grad, expected)


def test_the_mean_has_a_gradient_for_each_violation():
    scores = torch.zeros(3, 3, requires_grad=True)
    ranking_loss(scores, torch.arange(3), hardest=False).backward()
    torch.testing.assert_close(scores.grad, 3 * torch.full((3, 3), 1 / 3) - 3 * torch.eye(3))


def test_well_separated_scores_have_zero_loss():
    assert ranking_loss(torch.eye(5), torch.arange(5), margin=0.2) == 0
