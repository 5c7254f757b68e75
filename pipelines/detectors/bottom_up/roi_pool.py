"""RoIPool (Girshick 2015, Fast R-CNN, section 2.1): maxima over 14 x 14 bins of each box.

Shapes: R boxes, C channels, H x W cells.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.detectors.bottom_up.layout import STRIDE

BINS = 14
"""Bins along each side."""


def roi_pool(map_CHW: Tensor, boxes_R4: Tensor) -> Tensor:
    """Returns the maxima (R, C, 14, 14) of boxes in pixels of the resized photo (not negative, x0 <= x1, y0 <= y1).

    A box covers the cells from its rounded low to its rounded high corner, both included. Bin i covers the cells from
    floor(i * cells / 14) to ceil((i + 1) * cells / 14), which is adaptive pooling. A box may extend one cell beyond the
    map; a bin that is entirely outside is 0. Rounding is half up, like C's `round` (torch rounds half to even).
    """
    cells_R4 = torch.floor(boxes_R4 / STRIDE + 0.5).long().tolist()
    _, H, W = map_CHW.shape
    right = max((x1 for _, _, x1, _ in cells_R4), default=0) + 1 - W
    bottom = max((y1 for _, _, _, y1 in cells_R4), default=0) + 1 - H
    padded_CHW = F.pad(map_CHW, (0, max(0, right), 0, max(0, bottom)), value=-torch.inf)
    pooled_RCHW = map_CHW.new_empty(len(cells_R4), map_CHW.shape[0], BINS, BINS)
    for pooled_CHW, (x0, y0, x1, y1) in zip(pooled_RCHW, cells_R4, strict=True):
        pooled_CHW.copy_(F.adaptive_max_pool2d(padded_CHW[:, y0 : y1 + 1, x0 : x1 + 1], BINS))
    return pooled_RCHW.masked_fill_(pooled_RCHW == -torch.inf, 0)
