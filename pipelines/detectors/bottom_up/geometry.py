"""Boxes of the two-stage detector: deltas, clipping, overlap, and both kinds of non-maximum suppression.

Boxes are x0 y0 x1 y1, edges between pixels (no "+ 1"). Shapes: K candidates in order of score, R regions, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MOST_GROWTH = math.log(1000 / 16)
"""Log scale deltas are cut here, so that no exp overflows (Detectron)."""


def apply_deltas(deltas_K4: Tensor, boxes_K4: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Boxes moved and scaled by dx dy dw dh, each divided by its weight (R-CNN, Girshick et al. 2014, appendix C)."""
    deltas_K4 = deltas_K4 / deltas_K4.new_tensor(weights)
    size_K2 = boxes_K4[:, 2:] - boxes_K4[:, :2]
    centre_K2 = boxes_K4[:, :2] + 0.5 * size_K2 + deltas_K4[:, :2] * size_K2
    half_K2 = 0.5 * size_K2 * deltas_K4[:, 2:].clamp(max=_MOST_GROWTH).exp()
    return torch.cat([centre_K2 - half_K2, centre_K2 + half_K2], dim=1)


def clip(boxes_K4: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes cut to a photo of (height, width)."""
    height, width = size
    return boxes_K4.clamp(min=0).minimum(boxes_K4.new_tensor([width, height, width, height]))


def overlaps(boxes_K4: Tensor, others_R4: Tensor, iou: float) -> Tensor:
    """(K, R) bool: whether the intersection over union exceeds `iou`. Boxes without area overlap nothing."""
    low_KR2 = torch.maximum(boxes_K4[:, None, :2], others_R4[None, :, :2])
    high_KR2 = torch.minimum(boxes_K4[:, None, 2:], others_R4[None, :, 2:])
    shared_KR = (high_KR2 - low_KR2).clamp_(min=0).prod(dim=-1)
    return shared_KR > iou * (area(boxes_K4)[:, None] + area(others_R4)[None, :] - shared_KR)


def area(boxes_K4: Tensor) -> Tensor:
    """(K,) in pixels squared."""
    return (boxes_K4[:, 2] - boxes_K4[:, 0]) * (boxes_K4[:, 3] - boxes_K4[:, 1])


def nms(boxes_K4: Tensor, iou: float, most: int) -> Tensor:
    """Indices of at most `most` boxes, greedy: each overlaps no kept one before it by more than `iou`. In order.

    Boxes are in order of score. Memory is a few times that of the boxes: one row of overlaps at a time, and as many
    rows as boxes are kept.
    """
    alive_K = torch.ones(len(boxes_K4), dtype=torch.bool, device=boxes_K4.device)
    kept: list[int] = []
    while len(kept) < most and bool(alive_K.any()):
        best = int(alive_K.byte().argmax())  # the first that is alive
        kept.append(best)
        alive_K &= ~overlaps(boxes_K4[best : best + 1], boxes_K4, iou)[0]
        alive_K[best] = False
    return torch.tensor(kept, dtype=torch.int64, device=boxes_K4.device)


def best_surviving_scores(boxes_R4: Tensor, scores_RC: Tensor, iou: float) -> Tensor:
    """(R,) best score of each box over the classes in which it survives greedy suppression at `iou`; 0 where in none.

    Each class suppresses by itself, best score first, equal scores in order of the boxes. All classes run in step: R
    steps over (C, R) flags, and the overlaps, which the classes share, are computed once.
    """
    R, C = scores_RC.shape
    suppresses_RR = overlaps(boxes_R4, boxes_R4, iou).fill_diagonal_(False)
    order_RC = scores_RC.argsort(dim=0, descending=True, stable=True)
    suppressed_CR = torch.zeros(C, R, dtype=torch.bool, device=scores_RC.device)
    for box_C in order_RC:  # the next best box of every class
        survives_C1 = ~suppressed_CR.gather(1, box_C[:, None])
        suppressed_CR |= suppresses_RR.index_select(0, box_C) & survives_C1
    return scores_RC.masked_fill(suppressed_CR.T, 0).amax(dim=1)
