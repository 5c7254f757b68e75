"""Detection of equal scores, and the warning of them."""

import numpy as np
import pytest
import torch

from pipelines.training.config import TrainConfig
from pipelines.training.plateau import on_plateau, plateau_warning
from shan_model.loss import ranking_loss

PHOTO_OF_CAPTION = np.repeat(np.arange(20), 2)
MATCHED = np.arange(20)[:, None] == PHOTO_OF_CAPTION


def scores(gap: float, noise: float) -> np.ndarray:
    """Returns scores of matched pairs with that distance to the others, on average."""
    drawn = np.random.default_rng(0).normal(size=MATCHED.shape)
    drawn[MATCHED] -= drawn[MATCHED].mean()
    drawn[~MATCHED] -= drawn[~MATCHED].mean()
    return (noise * drawn + gap * MATCHED).astype(np.float32)


def test_equal_scores_are_the_plateau_of_both_losses():
    equal = torch.full((128, 128), 0.7)
    for hardest in (True, False):
        loss = ranking_loss(equal, torch.arange(128), margin=0.2, hardest=hardest)
        assert loss.item() == pytest.approx(51.2, rel=1e-4)
    assert on_plateau(equal.numpy(), np.arange(128), 0.2)


@pytest.mark.parametrize(("gap", "expected"), [(-1.0, True), (0.0, True), (0.019, True), (0.021, False), (1.0, False)])
def test_plateau_ends_a_tenth_of_the_margin_above_it(gap: float, expected: bool):
    assert on_plateau(scores(gap, noise=1), PHOTO_OF_CAPTION, 0.2) == expected


def test_a_model_that_ranks_has_left_the_plateau():
    assert not on_plateau(scores(0.016, noise=0.001), PHOTO_OF_CAPTION, 0.2)


@pytest.mark.parametrize(
    ("epoch", "warmup", "end"),
    [
        (1, 0, "; if that lasts, start another training with train.hard_negative_warmup_epochs=1"),
        (2, 0, "; start another training with train.hard_negative_warmup_epochs=1"),
        (1, 1, "; epoch 2 trains on the mean of all violations"),
        (2, 1, "; start another training with more train.epochs, or another train.learning_rate"),
    ],
)
def test_warning_states_what_follows(epoch: int, warmup: int, end: str):
    found = plateau_warning(epoch, TrainConfig(epochs=2, hard_negative_warmup_epochs=warmup))
    expected = f"after epoch {epoch} matched pairs of val score like the others, and rankings are near random"
    assert found == expected + end
