"""Box operations of the `embedded` detector in torch: decoding, clipping, non-maximum suppression, pooling.

Shapes: B photos, K candidate boxes, R kept boxes, C channels of a map of H x W cells, S samples, N cells.
"""

from __future__ import annotations

import torch
from torch import Tensor


def decode_boxes(encodings_BK4: Tensor, anchors_K4: Tensor) -> Tensor:
    """Decodes SSD box deltas to boxes (B, K, 4), x0 y0 x1 y1 in units of the photo's sides.

    Anchors are ymin xmin ymax xmax in [0, 1]. Deltas are centre y, centre x (times 0.1, in anchor sides) and log
    height, log width (times 0.2): the box coder of SSD (Liu et al. 2016, section 2.2) with its usual variances.
    """
    low_K2, high_K2 = anchors_K4.split(2, dim=-1)
    size_K2 = high_K2 - low_K2
    centre_BK2 = encodings_BK4[..., :2] * 0.1 * size_K2 + (low_K2 + size_K2 * 0.5)
    half_BK2 = torch.exp(encodings_BK4[..., 2:] * 0.2) * size_K2 * 0.5
    return torch.cat([(centre_BK2 - half_BK2).flip(-1), (centre_BK2 + half_BK2).flip(-1)], dim=-1)


def fit_to_photo(boxes_BK4: Tensor, sizes_B2: Tensor, min_side: float) -> Tensor:
    """Clips boxes (pixels, xyxy) to photos of (width, height) and widens thin ones to `min_side` pixels.

    Photos have at least one pixel, so a `min_side` of at most 1 always fits.
    """
    limit_B12 = sizes_B2[:, None, :]
    low = boxes_BK4[..., :2].clamp(min=0).minimum(limit_B12 - min_side)
    high = boxes_BK4[..., 2:].minimum(limit_B12).maximum(low + min_side)
    return torch.cat([low, high], dim=-1)


def greedy_nms(boxes_BK4: Tensor, scores_BK: Tensor, iou: float, keep: int) -> Tensor:
    """Returns the indices (B, keep) of class-agnostic greedy non-maximum suppression.

    Each step selects the best box that is not suppressed and suppresses the boxes that overlap it by more than `iou`.
    If fewer than `keep` boxes survive (a blank or tiny photo), the best suppressed ones follow. Within both groups
    boxes are ordered by score, and equal scores keep their order. Boxes are xyxy with positive area, scores in [0, 1].
    Raises ValueError if `keep` exceeds K.
    """
    if keep > scores_BK.shape[1]:
        raise ValueError(f"keep is {keep}; it must be at most the number of boxes, {scores_BK.shape[1]}")
    x0, y0, x1, y1 = boxes_BK4.permute(2, 0, 1).contiguous()
    area_BK = (x1 - x0) * (y1 - y0)
    rank_BK = scores_BK.clone()
    suppressed_BK = torch.zeros_like(rank_BK, dtype=torch.bool)
    kept = []
    for _ in range(keep):
        # Suppressed boxes rank below all others by at least 1, selected ones below everything.
        best_B1 = torch.where(suppressed_BK, rank_BK - 2.0, rank_BK).argmax(dim=1, keepdim=True)
        width_BK = x1.minimum(x1.gather(1, best_B1)) - x0.maximum(x0.gather(1, best_B1))
        height_BK = y1.minimum(y1.gather(1, best_B1)) - y0.maximum(y0.gather(1, best_B1))
        overlap_BK = width_BK.clamp_(min=0) * height_BK.clamp_(min=0)
        union_BK = area_BK + area_BK.gather(1, best_B1) - overlap_BK
        suppressed_BK |= overlap_BK > iou * union_BK
        rank_BK.scatter_(1, best_B1, -torch.inf)
        kept.append(best_B1)
    return torch.cat(kept, dim=1)


def pool_regions(map_BCHW: Tensor, boxes_BR4: Tensor, samples: int) -> Tensor:
    """Returns the mean of samples x samples bilinear samples of a map within each box, (B, R, C).

    Boxes are xyxy in units of the photo's sides ([0, 1]). Samples are at the centres of a samples x samples grid over
    the box. Cell i of n is centred at (i + 0.5) / n, and samples beyond the outer centres take the border cell. The
    mean is linear in the map and separable, so it is computed with row and column weights and one matrix product.
    """
    B, C, H, W = map_BCHW.shape
    x0, y0, x1, y1 = boxes_BR4.unbind(-1)
    rows_BRH = _cell_weights(y0, y1, H, samples)
    columns_BRW = _cell_weights(x0, x1, W, samples)
    weights_BRHW = rows_BRH[..., :, None] * columns_BRW[..., None, :]
    return weights_BRHW.flatten(2) @ map_BCHW.permute(0, 2, 3, 1).reshape(B, H * W, C)


def _cell_weights(start_BR: Tensor, end_BR: Tensor, cells: int, samples: int) -> Tensor:
    """Returns the weight of each cell (B, R, cells) in the mean of `samples` linear samples from start to end."""
    along_S = (torch.arange(samples, device=start_BR.device) + 0.5) / samples
    at_BRS = start_BR[..., None] + (end_BR - start_BR)[..., None] * along_S
    at_BRS = (at_BRS * cells - 0.5).clamp(0, cells - 1)
    distance_BRSN = (at_BRS[..., None] - torch.arange(cells, device=start_BR.device)).abs()
    return (1 - distance_BRSN).clamp(min=0).mean(dim=2)
