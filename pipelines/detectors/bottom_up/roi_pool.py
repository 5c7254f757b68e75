"""RoIPool (Girshick 2015, Fast R-CNN, section 2.1): maxima over 14 x 14 bins of each box.

Along each side, a bin is the union of two overlapping windows whose length is a power of two. Its maximum is therefore
that of four windows. The maxima of all windows of the map are computed once.

Shapes: R boxes, C channels, H x W cells, P x Q levels of windows, Y x X cells of the padded map,
N windows, B bins of a side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.detectors.bottom_up.checkpoint_keys import STRIDE

BINS = 14
"""Bins along each side."""


def window_maxima(map_CHW: Tensor) -> Tensor:
    """Returns (P, Q, H + 1, W + 1, C): the maximum over the 2^p x 2^q cells from each cell on, up to the largest bins.

    The map is padded by one row and one column of -inf, because a box may extend one cell beyond it. Windows that
    extend further have no meaning.
    """
    padded_YXC = F.pad(map_CHW, (0, 1, 0, 1), value=-torch.inf).permute(1, 2, 0)
    # The longest bin of a side of n cells has at most ceil(n / 14) + 1.
    P, Q = ((-(-cells // BINS) + 1).bit_length() for cells in padded_YXC.shape[:2])
    windows_PQYXC = padded_YXC.new_empty(P, Q, *padded_YXC.shape)
    windows_PQYXC[0, 0] = padded_YXC
    for p in range(1, P):
        half_YXC = windows_PQYXC[p - 1, 0]
        windows_PQYXC[p, 0] = torch.maximum(half_YXC, half_YXC.roll(-(2 ** (p - 1)), 0))
    for q in range(1, Q):
        half_PYXC = windows_PQYXC[:, q - 1]
        windows_PQYXC[:, q] = torch.maximum(half_PYXC, half_PYXC.roll(-(2 ** (q - 1)), 2))
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
    pooled_RBBC = next(corners)
    for corner_RBBC in corners:
        torch.maximum(pooled_RBBC, corner_RBBC, out=pooled_RBBC)
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
