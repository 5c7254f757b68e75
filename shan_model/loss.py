"""Hinge-based triplet ranking loss (SHAN, Eq. 17)."""

import math

from torch import Tensor


def ranking_loss(scores_BB: Tensor, photo_of_row: Tensor, *, margin: float = 0.2, hardest: bool = True) -> Tensor:
    """Sum over the batch of the violations of both directions.

    `scores_BB[i, j]` is S(photo i, caption j); caption i belongs to photo i. `photo_of_row` (B, integer) names the
    photo of each row: rows with the same photo are never each other's negatives [D]. `hardest` takes the worst
    violation of each row and column (Eq. 17); otherwise their mean, which can warm up training that would
    collapse from scratch.
    """
    positive_B = scores_BB.diagonal()
    same_BB = photo_of_row[:, None] == photo_of_row[None, :]
    cost_text_BB = (margin - positive_B[:, None] + scores_BB).clamp(min=0).masked_fill(same_BB, 0)
    cost_photo_BB = (margin - positive_B[None, :] + scores_BB).clamp(min=0).masked_fill(same_BB, 0)
    if hardest:
        return cost_text_BB.amax(dim=1).sum() + cost_photo_BB.amax(dim=0).sum()
    negatives_B = (~same_BB).sum(dim=1).clamp(min=1)
    return (cost_text_BB.sum(dim=1) / negatives_B).sum() + (cost_photo_BB.sum(dim=0) / negatives_B).sum()


def is_collapsed(loss: float, batch_size: int, margin: float) -> bool:
    """Whether a hardest-negative loss sits at 2 B margin: all scores are equal and nothing is learnt any more."""
    return math.isclose(loss, 2 * batch_size * margin, rel_tol=1e-3)
