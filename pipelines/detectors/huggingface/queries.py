"""The `huggingface` detector: the best queries of an object detection model (DETR and its relatives, RT-DETR, YOLOS).

A query gives a box, a score per class and a hidden state, which is the feature. Its class is the most likely one and
its confidence that score. The queries are ranked by it after class-agnostic suppression.

Shapes: B photos, Q queries, C classes, R regions, D width of a hidden state, K channels of the backbone's map of H x W.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.detectors import boxes as box_ops
from pipelines.detectors.batches import detect_in_batches
from pipelines.detectors.bottom_up import geometry
from pipelines.detectors.contract import Regions, check_photo
from pipelines.detectors.exact_float32 import exact_float32
from pipelines.detectors.huggingface.loading import (
    BATCH_SIZES,
    find_backbone,
    load_network,
    load_processor,
    processed,
)

if TYPE_CHECKING:
    from pipelines.detectors.huggingface.config import QueriesConfig

_MIN_BOX_SIDE = 1 / 16
"""Minimum box side in pixels of the photo; thinner boxes are widened, so that rounding leaves no empty box."""
_MAX_ASPECT = 16
"""Longest side over shortest side. Narrower photos are stretched, so that a network's map has at least one cell."""
_POOL_SAMPLES = 7
"""Bilinear samples along each side of a box over which the map is averaged."""


class QueryDetector:
    """Implements `contract.Detector`. Photos that the processor gives one size go through the network together."""

    def __init__(self, spec: QueriesConfig, device: str = "cpu") -> None:
        self.spec, self.device = spec, torch.device(device)
        self.batch_size = BATCH_SIZES[self.device.type]
        folder = spec.verified_folder()
        self.processor = load_processor(spec, folder)
        self.network = load_network(spec, folder, "AutoModelForObjectDetection", self.device)
        self._map_BKHW: Tensor | None = None
        if spec.backbone_map:
            backbone = find_backbone(self.network)
            assert backbone is not None, "backbone_channels found it"
            backbone.register_forward_hook(self._keep_map)
        self._check()

    def __call__(self, photos: list[np.ndarray]) -> list[Regions]:
        """Returns the regions of each RGB uint8 (H, W, 3) photo; raises ValueError for other arrays."""
        for photo in photos:
            check_photo(photo)
        images = [processed(self.processor, _widened(photo), do_pad=False) for photo in photos]

        def detect(images_B3HW: Tensor, positions: list[int]) -> list[Regions]:
            return self._detect(images_B3HW.to(self.device), [photos[position].shape[:2] for position in positions])

        with torch.inference_mode(), exact_float32():
            return detect_in_batches(images, self.batch_size, detect)

    def _detect(self, images_B3HW: Tensor, sizes: list[tuple[int, ...]]) -> list[Regions]:
        output = self.network(pixel_values=images_B3HW)
        scores_BQC = self._scores(output.logits)
        confidences_BQ, classes_BQ = scores_BQC.max(dim=-1)
        centre_BQ2, half_BQ2 = output.pred_boxes[..., :2], output.pred_boxes[..., 2:] / 2
        sides_B2 = torch.tensor([[width, height] for height, width in sizes], dtype=torch.float32, device=self.device)
        boxes_BQ4 = torch.cat([centre_BQ2 - half_BQ2, centre_BQ2 + half_BQ2], dim=-1) * sides_B2.repeat(1, 2)[:, None]
        boxes_BQ4 = box_ops.fit_to_photo(boxes_BQ4, sides_B2, _MIN_BOX_SIDE)
        hidden_BQD = self._hidden(output)
        found = []
        for b in range(len(sizes)):
            kept_R = self._select(boxes_BQ4[b], confidences_BQ[b])
            features_RF = hidden_BQD[b, kept_R]
            if self._map_BKHW is not None:
                boxes_1R4 = (boxes_BQ4[b, kept_R] / sides_B2[b].repeat(2))[None]
                (pooled_RK,) = box_ops.pool_regions(self._map_BKHW[b : b + 1], boxes_1R4, _POOL_SAMPLES)
                features_RF = torch.cat([features_RF, pooled_RK], dim=1)
            arrays = (features_RF, boxes_BQ4[b, kept_R], classes_BQ[b, kept_R], confidences_BQ[b, kept_R])
            found.append(Regions(*(array.cpu().numpy() for array in arrays)))
        return found

    def _scores(self, logits_BQL: Tensor) -> Tensor:
        """Returns class probabilities (B, Q, C): of a softmax with a last column "no object", or of sigmoids."""
        if logits_BQL.shape[-1] == len(self.spec.class_names) + 1:
            return logits_BQL.softmax(dim=-1)[..., :-1]
        return logits_BQL.sigmoid()

    def _hidden(self, output: Any) -> Tensor:
        """Returns the hidden states (B, Q, D). Those of YOLOS follow the ones of its patches."""
        return output.last_hidden_state[:, -output.logits.shape[1] :]

    def _select(self, boxes_Q4: Tensor, confidences_Q: Tensor) -> Tensor:
        """Returns the indices (R) of the regions, best first."""
        order_Q = confidences_Q.argsort(descending=True, stable=True)
        kept_R = geometry.nms(boxes_Q4[order_Q], self.spec.nms_iou, self.spec.max_boxes)
        count = int((confidences_Q[order_Q[kept_R]] >= self.spec.keep_score).sum())
        kept_R = geometry.fill_up(kept_R[: max(count, self.spec.min_boxes)], len(order_Q), self.spec.min_boxes)
        return order_Q[kept_R]

    def _keep_map(self, _module: Any, _inputs: Any, maps: Any) -> None:
        """Keeps the last map of the backbone, which returns pairs of a map and a mask."""
        self._map_BKHW = maps[-1][0]

    def _check(self) -> None:
        """Runs the network on a blank photo. Raises UserError unless it returns what the spec states."""
        blank = processed(self.processor, np.zeros((64, 64, 3), np.uint8), do_pad=False)[None].to(self.device)
        with torch.inference_mode():
            output = self.network(pixel_values=blank)
        parts = [getattr(output, name, None) for name in ("logits", "pred_boxes", "last_hidden_state")]
        if not all(isinstance(part, Tensor) and part.ndim == 3 for part in parts):
            raise self.spec.unusable("it does not return logits, pred_boxes and last_hidden_state per query")
        queries, labels = output.logits.shape[1:]
        width = self._hidden(output).shape[-1] + (0 if self._map_BKHW is None else self._map_BKHW.shape[1])
        if self._hidden(output).shape[1] != queries or width != self.spec.feature_dim:
            raise self.spec.unusable(f"its hidden states {tuple(output.last_hidden_state.shape)} are not per query")
        if labels - len(self.spec.class_names) not in (0, 1):
            raise self.spec.unusable(f"it scores {labels} classes, and has labels for {len(self.spec.class_names)}")
        if queries < self.spec.max_boxes:
            raise self.spec.unusable(f"max_boxes is {self.spec.max_boxes}, and it has {queries} queries; lower it")


def _widened(photo: np.ndarray) -> np.ndarray:
    """Returns the photo, stretched if it is narrow; boxes are relative to its sides, so they stay right."""
    height, width = photo.shape[:2]
    shortest = -(-max(height, width) // _MAX_ASPECT)
    if min(height, width) >= shortest:
        return photo
    size = (max(width, shortest), max(height, shortest))
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR))
