"""Region proposal network: scores and deltas of the anchors of every cell, and the proposals selected from them.

Shapes: B photos, A anchors of a cell, K anchors of the map or candidates, R proposals, H x W cells, D = 4 A deltas.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.detectors.bottom_up.checkpoint_keys import STRIDE
from pipelines.detectors.bottom_up.geometry import apply_deltas, area, clip, fill_up, nms

_HEAD = "proposal_generator.rpn_head"
_ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"


class ProposalHead(nn.Module):
    """A 3x3 convolution and ReLU, then a score and four deltas for each of the A = 12 anchors of each cell."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for layer in ("conv", "objectness_logits", "anchor_deltas"):
            for part in ("weight", "bias"):
                self.register_buffer(f"{layer}_{part}", tensors[f"{_HEAD}.{layer}.{part}"])

    def forward(self, maps_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Returns float32 scores (B, K) and deltas (B, K, 4); K runs over rows, columns, then the anchors of a cell."""
        hidden = F.relu_(F.conv2d(maps_BCHW, self.get_buffer("conv_weight"), self.get_buffer("conv_bias"), padding=1))
        scores_BAHW, deltas_BDHW = (
            F.conv2d(hidden, self.get_buffer(f"{layer}_weight"), self.get_buffer(f"{layer}_bias"))
            for layer in ("objectness_logits", "anchor_deltas")
        )
        scores_BK = scores_BAHW.permute(0, 2, 3, 1).flatten(1)
        deltas_BK4 = deltas_BDHW.permute(0, 2, 3, 1).reshape(len(maps_BCHW), -1, 4)
        return scores_BK.float(), deltas_BK4.float()


def cell_anchors(tensors: Mapping[str, Tensor]) -> Tensor:
    """Returns the anchors (12, 4) of the cell at the origin, which the checkpoint contains."""
    return tensors[_ANCHORS]


def grid_anchors(cell_A4: Tensor, rows: int, columns: int) -> Tensor:
    """Returns the anchors (K, 4) of all cells, ordered like `ProposalHead`; cell (0, 0) is centred on corner (0, 0)."""
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
    min_boxes: int,
    max_boxes: int,
) -> Tensor:
    """Returns `min_boxes` to `max_boxes` proposals (R, 4), clipped to the photo of `size` (height, width) pixels.

    They are the best of the `candidates` highest-scoring anchors after suppression at `iou`, by score; boxes without
    area are excluded. If fewer than `min_boxes` survive (a photo that is a line of pixels), the best suppressed boxes
    follow, then the best of those without area. K must be at least `min_boxes`.
    """
    best_K = scores_K.argsort(descending=True, stable=True)[:candidates]
    boxes_K4 = clip(apply_deltas(deltas_K4[best_K], anchors_K4[best_K], (1, 1, 1, 1)), size)
    has_area_K = area(boxes_K4) > 0
    boxes_K4 = boxes_K4[has_area_K.byte().argsort(descending=True, stable=True)]  # those without area last
    kept_R = nms(boxes_K4[: int(has_area_K.sum())], iou, max_boxes)
    return boxes_K4[fill_up(kept_R, len(boxes_K4), min_boxes)]
