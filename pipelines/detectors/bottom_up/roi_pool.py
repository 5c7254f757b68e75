"""RoIPool (Girshick 2015, Fast R-CNN, section 2.1): maxima over 14 x 14 bins of each box.

Along each side, a bin is the union of two overlapping windows whose length is a power of two. Its maximum is therefore
that of four windows. The maxima of all windows of the map are computed once.

Shapes: R boxes, C channels, H x W cells, P x Q levels of windows, Y x X cells of the padded map,
N windows, B bins of a side.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.detectors.bottom_up.layout import STRIDE

BINS = 14
"""Bins along each side."""


def window_maxima(map_CHW: Tensor) -> Tensor:
    """Returns (P, Q, H + 1, W + 1, C): the maximum over the 2^p x 2^q cells from each cell on, up to the largest bins.

    The map is padded by one row and one column of -inf, because a box may extend one cell beyond it. Windows that
    extend further have no meaning.
    """
    windows_PQYXC = F.pad(map_CHW, (0, 1, 0, 1), value=-torch.inf).permute(1, 2, 0).contiguous()[None, None]
    for side in (0, 1):
        levels = [windows_PQYXC]
        longest_bin = -(-windows_PQYXC.shape[side + 2] // BINS) + 1
        for level in range(longest_bin.bit_length() - 1):
            levels.append(torch.maximum(levels[-1], levels[-1].roll(-(2**level), side + 2)))
        windows_PQYXC = torch.cat(levels, dim=side)
    return windows_PQYXC


def roi_pool(windows_PQYXC: Tensor, boxes_R4: Tensor) -> Tensor:
    """Returns the maxima (R, C, 14, 14), channels last, of boxes in pixels of the resized photo.

    Boxes are not negative, with x0 <= x1 and y0 <= y1; the windows are `window_maxima` of the map. A box covers the
    cells from its rounded low to its rounded high corner, both included. Bin i covers the cells from
    floor(i * cells / 14) to ceil((i + 1) * cells / 14), which is adaptive pooling. A box may extend one cell beyond the
    map; a bin that is entirely outside is 0. Rounding is half up, like C's `round` (torch rounds half to even).
    """
    x0_R1, y0_R1, x1_R1, y1_R1 = torch.floor(boxes_R4 / STRIDE + 0.5).long()[:, :, None].unbind(1)
    _, Q, Y, X, _ = windows_PQYXC.shape
    rows = _windows(y0_R1, y1_R1, Q * Y * X, X)
    columns = _windows(x0_R1, x1_R1, Y * X, 1)
    windows_NC = windows_PQYXC.flatten(0, 3)
    corners = (windows_NC[row_RB[:, :, None] + column_RB[:, None]] for row_RB in rows for column_RB in columns)
    pooled_RBBC = reduce(torch.maximum, corners)
    return pooled_RBBC.masked_fill_(pooled_RBBC == -torch.inf, 0).permute(0, 3, 1, 2)


def _windows(low_R1: Tensor, high_R1: Tensor, per_level: int, per_cell: int) -> tuple[Tensor, Tensor]:
    """Returns the indices (R, B), along one side, of the two windows whose union is a bin.

    The index of a window is the sum of those along both sides; it grows by `per_level` and `per_cell`.
    """
    cells_R1 = high_R1 - low_R1 + 1
    bins_B = torch.arange(BINS, device=low_R1.device)
    first_RB = low_R1 + bins_B * cells_R1 // BINS
    end_RB = low_R1 + ((bins_B + 1) * cells_R1 + BINS - 1) // BINS
    level_RB = torch.frexp((end_RB - first_RB).float()).exponent.long() - 1  # rounded down, exactly
    last_RB = end_RB - (1 << level_RB)
    return level_RB * per_level + first_RB * per_cell, level_RB * per_level + last_RB * per_cell
