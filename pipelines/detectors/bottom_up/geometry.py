"""Box operations of the `bottom_up` detector: deltas, clipping, overlap, and two kinds of non-maximum suppression.

Boxes are x0 y0 x1 y1 with edges between pixels (no "+ 1"). On a GPU, the time is that of launches and of waiting for
results, so every function works on all boxes at once.

Shapes: K candidates in order of score, B candidates of a block, R regions, C classes or orders, W words of a bit set.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_MAX_LOG_SCALE = math.log(1000 / 16)
"""Upper limit of the log scale deltas, so that exp does not overflow (Detectron)."""
_BLOCK_SIZE = 1000
"""Candidates that `nms` decides at once. Limits memory (this squared floats); results do not depend on it."""
_WORD_BITS = 63
"""Bits of a word of a set: an int64 without its sign."""


def apply_deltas(deltas_K4: Tensor, boxes_K4: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Applies deltas dx dy dw dh, each divided by its weight, to boxes (R-CNN, Girshick et al. 2014, appendix C)."""
    deltas_K4 = torch.stack([delta_K / by for delta_K, by in zip(deltas_K4.unbind(1), weights, strict=True)], dim=1)
    size_K2 = boxes_K4[:, 2:] - boxes_K4[:, :2]
    centre_K2 = boxes_K4[:, :2] + 0.5 * size_K2 + deltas_K4[:, :2] * size_K2
    half_K2 = 0.5 * size_K2 * deltas_K4[:, 2:].clamp(max=_MAX_LOG_SCALE).exp()
    return torch.cat([centre_K2 - half_K2, centre_K2 + half_K2], dim=1)


def clip(boxes_K4: Tensor, size: tuple[int, int]) -> Tensor:
    """Clips boxes to a photo of (height, width)."""
    height, width = size
    x_K2, y_K2 = boxes_K4[:, 0::2].clamp(0, width), boxes_K4[:, 1::2].clamp(0, height)
    return torch.stack([x_K2, y_K2], dim=2).flatten(1)


def overlaps(boxes_K4: Tensor, others_R4: Tensor, iou: float) -> Tensor:
    """Returns (K, R) bool, whether the intersection over union exceeds `iou`; empty boxes overlap nothing."""
    x0_K1, y0_K1, x1_K1, y1_K1 = boxes_K4[:, :, None].unbind(1)
    x0_R, y0_R, x1_R, y1_R = others_R4.unbind(1)
    width_KR = (torch.minimum(x1_K1, x1_R) - torch.maximum(x0_K1, x0_R)).clamp_(min=0)
    height_KR = (torch.minimum(y1_K1, y1_R) - torch.maximum(y0_K1, y0_R)).clamp_(min=0)
    shared_KR = width_KR * height_KR
    return shared_KR > iou * (area(boxes_K4)[:, None] + area(others_R4) - shared_KR)


def area(boxes_K4: Tensor) -> Tensor:
    """Returns the areas (K,) in square pixels."""
    return (boxes_K4[:, 2] - boxes_K4[:, 0]) * (boxes_K4[:, 3] - boxes_K4[:, 1])


def nms(boxes_K4: Tensor, iou: float, max_boxes: int) -> Tensor:
    """Returns the indices, in order, of at most `max_boxes` boxes that greedy non-maximum suppression keeps.

    Boxes are in order of score. They are decided in blocks, since the first few often contain enough.
    """
    kept_R = torch.empty(0, dtype=torch.int64, device=boxes_K4.device)
    for block_B in torch.arange(len(boxes_K4), device=boxes_K4.device).split(_BLOCK_SIZE):
        block_B = block_B[~overlaps(boxes_K4[block_B], boxes_K4[kept_R], iou).any(dim=1)]
        overlaps_BB = overlaps(boxes_K4[block_B], boxes_K4[block_B], iou)
        order_1B = torch.arange(len(block_B), device=boxes_K4.device)[None]
        kept_R = torch.cat([kept_R, block_B[_survivors(overlaps_BB, order_1B)[0]]])[:max_boxes]
        if len(kept_R) == max_boxes:
            break
    return kept_R


def fill_up(kept_R: Tensor, count: int, min_boxes: int) -> Tensor:
    """Returns the indices `kept_R` of `count` boxes, and after them the first others up to `min_boxes` in total."""
    if len(kept_R) >= min_boxes:
        return kept_R
    is_other = torch.ones(count, dtype=torch.bool, device=kept_R.device)
    is_other[kept_R] = False
    return torch.cat([kept_R, is_other.nonzero()[:, 0]])[:min_boxes]


def best_surviving_scores(boxes_R4: Tensor, scores_RC: Tensor, iou: float) -> Tensor:
    """Returns the best score (R) of each box over the classes in which it survives greedy suppression at `iou`.

    It is 0 for a box that survives in no class. Each class is suppressed separately, by descending score, with equal
    scores in the order of the boxes. The overlaps are the same for all classes and are computed once.
    """
    order_CR = scores_RC.T.contiguous().argsort(dim=1, descending=True, stable=True)
    survives_CR = _survivors(overlaps(boxes_R4, boxes_R4, iou), order_CR)
    return scores_RC.masked_fill(~survives_CR.T, 0).amax(dim=1)


def _survivors(overlaps_RR: Tensor, order_CR: Tensor) -> Tensor:
    """Returns (C, R) bool, whether a box survives greedy suppression if boxes are kept in each of C orders.

    A box survives unless a surviving box before it overlaps it. Repeating this for all boxes, from the assumption that
    all survive, decides at least one more position per step, because a box depends on those before it only. The first
    state that repeats is therefore the solution, after as many steps as the longest chain of suppressions.
    """
    bits_CRW = _packed(torch.eye(len(overlaps_RR), dtype=torch.bool, device=overlaps_RR.device))[order_CR]
    before_CRW = bits_CRW.cumsum(dim=1) - bits_CRW  # sums of different bits are unions
    blockers_CRW = _packed(overlaps_RR)[order_CR].bitwise_and_(before_CRW)
    survives_CR = torch.ones_like(order_CR, dtype=torch.bool)
    while True:
        blocked_CR = (blockers_CRW & _packed(survives_CR)[:, None]).any(dim=2)
        last_CR, survives_CR = survives_CR, torch.empty_like(survives_CR).scatter_(1, order_CR, ~blocked_CR)
        if torch.equal(last_CR, survives_CR):
            return survives_CR


def _packed(flags_CR: Tensor) -> Tensor:
    """Returns the sets (C, W) int64 of the flags that are true."""
    words = -(-flags_CR.shape[1] // _WORD_BITS)
    bits_CWB = F.pad(flags_CR, (0, words * _WORD_BITS - flags_CR.shape[1])).unflatten(1, (words, _WORD_BITS))
    return (bits_CWB.long() << torch.arange(_WORD_BITS, device=flags_CR.device)).sum(dim=2)
