"""The detector of the paper: proposals, their features, and the selection rule of the original pipeline.

The class of a region is the most likely of the 1600 classes and its confidence the probability of that class, as in the
public TSV files. Regions are ranked by their best class score after suppression, which is at most that probability.
Attributes are conditioned on the most likely of all 1601 classes, background included, as in training.

Shapes: R proposals or regions, C classes, F feature width, A anchors of a cell, K anchors of the map, H x W pixels or
cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.detectors.batches import detect_in_batches
from pipelines.detectors.bottom_up import geometry, rpn
from pipelines.detectors.bottom_up.checkpoint import read_checkpoint
from pipelines.detectors.bottom_up.checkpoint_keys import CLASSES
from pipelines.detectors.bottom_up.preprocess import preprocess
from pipelines.detectors.bottom_up.resnet import Backbone
from pipelines.detectors.bottom_up.roi_head import Predictor, RegionFeatures
from pipelines.detectors.bottom_up.selection import keep
from pipelines.detectors.boxes import fit_to_photo
from pipelines.detectors.contract import Regions, check_photo
from pipelines.detectors.exact_float32 import exact_float32

if TYPE_CHECKING:
    from pipelines.detectors.bottom_up.config import BottomUpConfig

_Module = TypeVar("_Module", bound=nn.Module)
_BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Divisors of the box head's deltas (Detectron's default, which the public checkpoint uses)."""
_MIN_BOX_SIDE = 1 / 16
"""Minimum box side in pixels of the photo; thinner boxes are widened, so that rounding leaves no empty box."""
_BATCH_SIZES = {"cpu": 1, "cuda": 8}
"""Photos of one size that pass through backbone and proposal head together. On a CPU single photos are as fast, and
results do not depend on the batch; on a GPU they depend on it by rounding error."""


class BottomUp:
    """Implements `contract.Detector`. On a GPU, photos of one resized size are processed in batches.

    A photo costs about 2 TFLOP, so it should run on a GPU. On a CPU it uses torch's number of threads.
    """

    def __init__(self, config: BottomUpConfig, device: str = "cpu") -> None:
        self.config = config
        self.device = torch.device(device)
        self.batch_size = _BATCH_SIZES[self.device.type]
        self.dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        tensors = read_checkpoint(config.read_weights(), config.weights)
        self.backbone = _placed(Backbone(tensors), self.device, self.dtype)
        self.proposal_head = _placed(rpn.ProposalHead(tensors), self.device, self.dtype)
        self.region_features = _placed(RegionFeatures(tensors), self.device, self.dtype)
        self.predictor = Predictor(tensors).to(self.device)
        self.cell_anchors_A4 = rpn.cell_anchors(tensors).to(self.device)

    def __call__(self, photos: list[np.ndarray]) -> list[Regions]:
        """Returns the regions of each RGB uint8 (H, W, 3) photo; raises ValueError for other arrays."""
        for photo in photos:
            check_photo(photo)
        with torch.inference_mode(), exact_float32():
            inputs = [self._input(photo) for photo in photos]

            def detect(images_B3HW: Tensor, positions: list[int]) -> list[Regions]:
                return self._detect(images_B3HW, [(photos[position], inputs[position][1]) for position in positions])

            return detect_in_batches([image_3HW for image_3HW, _ in inputs], self.batch_size, detect)

    def _input(self, photo: np.ndarray) -> tuple[Tensor, tuple[int, int]]:
        """Returns the backbone's input (3, H, W), and the resized photo's (height, width) within it."""
        image_13HW, size = preprocess(photo, self.config.shortest_side, self.config.longest_side, self.device)
        return image_13HW[0].to(self.dtype), size

    def _detect(self, images_B3HW: Tensor, photos: list[tuple[np.ndarray, tuple[int, int]]]) -> list[Regions]:
        maps_BCHW = self.backbone(images_B3HW)
        anchors = self.proposal_head(maps_BCHW)
        return [self._regions(*each, *photo) for *each, photo in zip(maps_BCHW, *anchors, photos, strict=True)]

    def _regions(
        self, map_CHW: Tensor, scores_K: Tensor, deltas_K4: Tensor, photo: np.ndarray, size: tuple[int, int]
    ) -> Regions:
        anchors_K4 = rpn.grid_anchors(self.cell_anchors_A4, *map_CHW.shape[1:])
        proposals_R4 = self._propose(scores_K, deltas_K4, anchors_K4, size)
        features_RF = self.region_features(map_CHW, proposals_R4)

        logits_RC = self.predictor.class_logits(features_RF)
        scores_RC = logits_RC.softmax(dim=1)[:, :CLASSES]
        confidences_R, classes_R = scores_RC.max(dim=1)
        boxes_R4 = proposals_R4
        if self.config.box_rule == "regressed":
            deltas_R4 = self.predictor.box_deltas(features_RF, classes_R)
            boxes_R4 = geometry.clip(geometry.apply_deltas(deltas_R4, proposals_R4, _BOX_WEIGHTS), size)

        max_conf_R = geometry.best_surviving_scores(boxes_R4, scores_RC, self.config.class_nms_iou)
        kept_R = keep(max_conf_R, self.config.keep_score, *self.config.region_range)
        attributes = self.predictor.attribute_probabilities(features_RF[kept_R], logits_RC[kept_R]).max(dim=1)
        found = (
            features_RF[kept_R],
            self._in_photo(boxes_R4[kept_R].cpu(), size, photo),
            classes_R[kept_R],
            confidences_R[kept_R],
            attributes.indices,
            attributes.values,
        )
        return Regions(*(tensor.cpu().numpy() for tensor in found))

    def _propose(self, scores_K: Tensor, deltas_K4: Tensor, anchors_K4: Tensor, size: tuple[int, int]) -> Tensor:
        config = self.config
        return rpn.propose(
            scores_K,
            deltas_K4,
            anchors_K4,
            size,
            candidates=config.rpn_candidates,
            iou=config.rpn_nms_iou,
            min_boxes=config.min_boxes,
            max_boxes=config.proposals,
        )

    def _in_photo(self, boxes_R4: Tensor, size: tuple[int, int], photo: np.ndarray) -> Tensor:
        """Converts boxes in pixels of the resized photo to pixels of the original photo."""
        sizes_12 = boxes_R4.new_tensor([[photo.shape[1], photo.shape[0]]])
        scale_4 = (sizes_12 / boxes_R4.new_tensor([[size[1], size[0]]])).repeat(1, 2)
        return fit_to_photo((boxes_R4 * scale_4)[None], sizes_12, _MIN_BOX_SIDE)[0]


def _placed(module: _Module, device: torch.device, dtype: torch.dtype) -> _Module:
    """Moves a module to its device and type, channels last: a seventh faster on a CPU, and what tensor cores need."""
    return module.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
