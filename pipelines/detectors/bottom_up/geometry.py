"""Box operations of the `bottom_up` detector: deltas, clipping, overlap, and two kinds of non-maximum suppression.

Boxes are x0 y0 x1 y1 with edges between pixels (no "+ 1").

Shapes: K candidates in order of score, R regions, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MAX_LOG_SCALE = math.log(1000 / 16)
"""Upper limit of the log scale deltas, so that exp does not overflow (Detectron)."""


def apply_deltas(deltas_K4: Tensor, boxes_K4: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Applies deltas dx dy dw dh, each divided by its weight, to boxes (R-CNN, Girshick et al. 2014, appendix C)."""
    deltas_K4 = deltas_K4 / deltas_K4.new_tensor(weights)
    size_K2 = boxes_K4[:, 2:] - boxes_K4[:, :2]
    centre_K2 = boxes_K4[:, :2] + 0.5 * size_K2 + deltas_K4[:, :2] * size_K2
    half_K2 = 0.5 * size_K2 * deltas_K4[:, 2:].clamp(max=_MAX_LOG_SCALE).exp()
    return torch.cat([centre_K2 - half_K2, centre_K2 + half_K2], dim=1)


def clip(boxes_K4: Tensor, size: tuple[int, int]) -> Tensor:
    """Clips boxes to a photo of (height, width)."""
    height, width = size
    return boxes_K4.clamp(min=0).minimum(boxes_K4.new_tensor([width, height, width, height]))


def overlaps(boxes_K4: Tensor, others_R4: Tensor, iou: float) -> Tensor:
    """Returns (K, R) bool, whether the intersection over union exceeds `iou`; empty boxes overlap nothing."""
    low_KR2 = torch.maximum(boxes_K4[:, None, :2], others_R4[None, :, :2])
    high_KR2 = torch.minimum(boxes_K4[:, None, 2:], others_R4[None, :, 2:])
    shared_KR = (high_KR2 - low_KR2).clamp_(min=0).prod(dim=-1)
    return shared_KR > iou * (area(boxes_K4)[:, None] + area(others_R4)[None, :] - shared_KR)


def area(boxes_K4: Tensor) -> Tensor:
    """Returns the areas (K,) in square pixels."""
    return (boxes_K4[:, 2] - boxes_K4[:, 0]) * (boxes_K4[:, 3] - boxes_K4[:, 1])


def nms(boxes_K4: Tensor, iou: float, max_boxes: int) -> Tensor:
    """Returns the indices, in order, of at most `max_boxes` boxes that greedy non-maximum suppression keeps.

    Boxes are in order of score. Overlaps are computed for one kept box at a time, so memory is proportional to K.
    """
    remaining_K = torch.ones(len(boxes_K4), dtype=torch.bool, device=boxes_K4.device)
    kept: list[int] = []
    while len(kept) < max_boxes and bool(remaining_K.any()):
        best = int(remaining_K.byte().argmax())  # the first one that is not suppressed
        kept.append(best)
        remaining_K &= ~overlaps(boxes_K4[best : best + 1], boxes_K4, iou)[0]
        remaining_K[best] = False
    return torch.tensor(kept, dtype=torch.int64, device=boxes_K4.device)


def best_surviving_scores(boxes_R4: Tensor, scores_RC: Tensor, iou: float) -> Tensor:
    """Returns the best score (R) of each box over the classes in which it survives greedy suppression at `iou`.

    It is 0 for a box that survives in no class. Each class is suppressed separately, by descending score, with equal
    scores in the order of the boxes. All classes advance together, in R steps over (C, R) flags. The overlaps are the
    same for all classes and are computed once.
    """
    R, C = scores_RC.shape
    suppresses_RR = overlaps(boxes_R4, boxes_R4, iou).fill_diagonal_(False)
    order_RC = scores_RC.argsort(dim=0, descending=True, stable=True)
    suppressed_CR = torch.zeros(C, R, dtype=torch.bool, device=scores_RC.device)
    for box_C in order_RC:  # the next best box of every class
        survives_C1 = ~suppressed_CR.gather(1, box_C[:, None])
        suppressed_CR |= suppresses_RR.index_select(0, box_C) & survives_C1
    return scores_RC.masked_fill(suppressed_CR.T, 0).amax(dim=1)
