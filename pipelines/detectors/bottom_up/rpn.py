"""The region proposal network: anchors at every cell, scored, moved, and thinned out to the best few hundred."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.detectors.bottom_up.geometry import apply_deltas, area, clip, nms
from pipelines.detectors.bottom_up.layout import STRIDE

_HEAD = "proposal_generator.rpn_head"
_ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"


class ProposalHead(nn.Module):
    """3x3 convolution and ReLU, then a score and four deltas for each of A = 12 anchors of each cell."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for layer in ("conv", "objectness_logits", "anchor_deltas"):
            for part in ("weight", "bias"):
                self.register_buffer(f"{layer}_{part}", tensors[f"{_HEAD}.{layer}.{part}"])

    def forward(self, map_1CHW: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (K,) and deltas (K, 4), float32; K runs over rows, columns, then anchors of a cell."""
        hidden = F.relu_(F.conv2d(map_1CHW, self.get_buffer("conv_weight"), self.get_buffer("conv_bias"), padding=1))
        scores_1AHW, deltas_1DHW = (
            F.conv2d(hidden, self.get_buffer(f"{layer}_weight"), self.get_buffer(f"{layer}_bias"))
            for layer in ("objectness_logits", "anchor_deltas")
        )
        scores_K = scores_1AHW[0].permute(1, 2, 0).flatten()
        deltas_K4 = deltas_1DHW[0].permute(1, 2, 0).reshape(-1, 4)
        return scores_K.float(), deltas_K4.float()


def cell_anchors(tensors: Mapping[str, Tensor]) -> Tensor:
    """(12, 4) anchors of the cell at the origin, as the checkpoint has them: those that the head was trained with."""
    return tensors[_ANCHORS]


def grid_anchors(cell_A4: Tensor, rows: int, columns: int) -> Tensor:
    """(K, 4) anchors of every cell, in the order of `ProposalHead`; cell (0, 0) is centred on pixel corner (0, 0)."""
    y_HW, x_HW = torch.meshgrid(
        torch.arange(rows, device=cell_A4.device) * STRIDE,
        torch.arange(columns, device=cell_A4.device) * STRIDE,
        indexing="ij",
    )
    shift_HW14 = torch.stack([x_HW, y_HW, x_HW, y_HW], dim=-1)[:, :, None]
    return (shift_HW14 + cell_A4).reshape(-1, 4)


def propose(
    scores_K: Tensor,
    deltas_K4: Tensor,
    anchors_K4: Tensor,
    size: tuple[int, int],
    candidates: int,
    iou: float,
    fewest: int,
    most: int,
) -> Tensor:
    """(R, 4) proposals in pixels of the resized photo of (height, width), clipped to it, `fewest` <= R <= `most`.

    The `candidates` best by score, those without area left out, thinned by suppression at `iou`; best first. Where
    fewer than `fewest` survive (a photo that is a line of pixels), the best suppressed ones follow, then the best of
    those without area; K is at least `fewest`.
    """
    best_K = scores_K.argsort(descending=True, stable=True)[:candidates]
    boxes_K4 = clip(apply_deltas(deltas_K4[best_K], anchors_K4[best_K], (1, 1, 1, 1)), size)
    has_area_K = area(boxes_K4) > 0
    boxes_K4 = torch.cat([boxes_K4[has_area_K], boxes_K4[~has_area_K]])
    kept_R = nms(boxes_K4[: int(has_area_K.sum())], iou, most)
    if len(kept_R) < fewest:
        passed_over = torch.ones(len(boxes_K4), dtype=torch.bool, device=boxes_K4.device)
        passed_over[kept_R] = False
        kept_R = torch.cat([kept_R, passed_over.nonzero()[:, 0]])[:fewest]
    return boxes_K4[kept_R]
