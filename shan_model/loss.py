"""Hinge-based triplet ranking loss (SHAN, Eq. 17)."""

import math
from typing import NamedTuple

import torch
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


class Negatives(NamedTuple):
    """The pairs that enter Eq. 17 beside the positives; at most 2 B of them."""

    row: Tensor
    """The positive pair that each is measured against."""
    photo: Tensor
    caption: Tensor


def hardest_negatives(scores_BB: Tensor, photo_of_row: Tensor, *, margin: float) -> Negatives:
    """The hardest caption of every photo and the hardest photo of every caption, where they violate the margin.

    Arguments as for `ranking_loss`, whose `hardest` these negatives make up.
    """
    positive_B = scores_BB.diagonal()
    allowed_BB = scores_BB.masked_fill(photo_of_row[:, None] == photo_of_row[None, :], -math.inf)
    rows_B = torch.arange(len(scores_BB), device=scores_BB.device)
    text, photo = allowed_BB.max(dim=1), allowed_BB.max(dim=0)
    # What lies within rounding of the margin stays in: the loss itself decides.
    text_rows = rows_B[margin - positive_B + text.values > -1e-3]
    photo_rows = rows_B[margin - positive_B + photo.values > -1e-3]
    return Negatives(
        row=torch.cat([text_rows, photo_rows]),
        photo=torch.cat([text_rows, photo.indices[photo_rows]]),
        caption=torch.cat([text.indices[text_rows], photo_rows]),
    )


def is_collapsed(loss: float, batch_size: int, margin: float) -> bool:
    """Whether a hardest-negative loss sits at 2 B margin: all scores are equal and nothing is learnt any more."""
    return math.isclose(loss, 2 * batch_size * margin, rel_tol=1e-3)
