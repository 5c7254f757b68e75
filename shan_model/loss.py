"""Hinge-based triplet ranking loss (SHAN, Eq. 17) and the mining of its hardest negatives.

Shapes: B pairs of a batch (photo i, caption i).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


def ranking_loss(scores_BB: Tensor, photo_of_row_B: Tensor, *, margin: float = 0.2, hardest: bool = True) -> Tensor:
    """Returns the sum over the batch of the margin violations in both retrieval directions.

    `scores_BB[i, j]` is S(photo i, caption j), and caption i belongs to photo i. `photo_of_row_B` (integer) identifies
    the photo of each row: rows of the same photo are not each other's negatives (not stated in the paper). With
    `hardest`, only the largest violation of each row and column counts (Eq. 17). Otherwise their mean does, a warm-up
    for training that would collapse from scratch.
    """
    positive_B = scores_BB.diagonal()
    same_BB = photo_of_row_B[:, None] == photo_of_row_B[None, :]
    cost_text_BB = (margin - positive_B[:, None] + scores_BB).clamp(min=0).masked_fill(same_BB, 0)
    cost_photo_BB = (margin - positive_B[None, :] + scores_BB).clamp(min=0).masked_fill(same_BB, 0)
    if hardest:
        return cost_text_BB.amax(dim=1).sum() + cost_photo_BB.amax(dim=0).sum()
    negatives_B = (~same_BB).sum(dim=1).clamp(min=1)
    return (cost_text_BB.sum(dim=1) / negatives_B).sum() + (cost_photo_BB.sum(dim=0) / negatives_B).sum()


class Negatives(NamedTuple):
    """The negative pairs that enter Eq. 17, at most 2 B of them; three integer tensors of equal length."""

    row: Tensor
    """Row of the positive pair that the negative is compared with."""
    photo: Tensor
    """Photo of the negative pair."""
    caption: Tensor
    """Caption of the negative pair."""


def hardest_negatives(scores_BB: Tensor, photo_of_row_B: Tensor, *, margin: float) -> Negatives:
    """Returns the hardest caption of each photo and the hardest photo of each caption that violate the margin.

    The arguments are those of `ranking_loss`; with `hardest`, its value depends on these negatives only.
    """
    positive_B = scores_BB.diagonal()
    allowed_BB = scores_BB.masked_fill(photo_of_row_B[:, None] == photo_of_row_B[None, :], -math.inf)
    rows_B = torch.arange(len(scores_BB), device=scores_BB.device)
    text, photo = allowed_BB.max(dim=1), allowed_BB.max(dim=0)
    # Pairs within rounding error of the margin are included, so that the loss itself decides about them.
    text_rows = rows_B[margin - positive_B + text.values > -1e-3]
    photo_rows = rows_B[margin - positive_B + photo.values > -1e-3]
    return Negatives(
        row=torch.cat([text_rows, photo_rows]),
        photo=torch.cat([text_rows, photo.indices[photo_rows]]),
        caption=torch.cat([text.indices[text_rows], photo_rows]),
    )
