"""The built-in `embedded` detector: COCO and ImageNet weights that are installed with the project, fast on a CPU.

Boxes come from SSDLite-MobileNetV2. The feature of a region is concat(EfficientNet-Lite2 1280, SSD stride 8 192, SSD
stride 16 576), where each part is averaged over the box and L2-normalised. These are not the paper's Visual Genome
features.

The 36 regions are the best anchors by their highest score among the 80 named COCO classes, after class-agnostic NMS and
without a score threshold (about 3 boxes per photo would pass one). If fewer than 36 survive, the best suppressed ones
follow (`greedy_nms`).

Shapes: B photos, A anchors, C channels or classes, R regions, F feature width, H x W pixels or cells.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pipelines.detectors import boxes as box_ops
from pipelines.detectors.coco import COCO_NAMES
from pipelines.detectors.contract import REGIONS, Regions, check_photo
from pipelines.detectors.lite2 import Lite2, load_package_model
from pipelines.detectors.ssdlite import SSDLite, preprocess
from pipelines.detectors.weight_files import LITE2_SHA256, SSDLITE_FILE, SSDLITE_SHA256, read_verified

if TYPE_CHECKING:
    from pipelines.detectors.embedded_config import EmbeddedConfig

_WEIGHTS = Path(__file__).parent / "weights"


class Embedded:
    """Implements `contract.Detector`. Loading reads 34 MB and verifies both weight files.

    It uses torch's number of threads, which should be set to the CPUs of the worker (`torch.set_num_threads`): more
    threads than free cores are much slower than one.
    """

    def __init__(self, config: EmbeddedConfig, device: str = "cpu") -> None:
        self.config = config
        self.device = torch.device(device)
        # On a CPU, single photos are fastest (maps stay in the cache) and make the results independent of the batch.
        self.chunk_size = 1 if self.device.type == "cpu" else 32
        data = read_verified(_WEIGHTS / SSDLITE_FILE, SSDLITE_SHA256)
        self.ssd = SSDLite(safetensors.torch.load(data)).to(self.device)
        side = self.config.lite2_side
        self.lite2 = Lite2(load_package_model(side, LITE2_SHA256), side).to(self.device)
        self._columns = torch.tensor(sorted(COCO_NAMES), device=self.device)
        self._mean = torch.tensor(self.config.lite2_mean) * 255
        self._std = torch.tensor(self.config.lite2_std) * 255

    def __call__(self, photos: list[np.ndarray]) -> list[Regions]:
        """Returns 36 regions of each RGB uint8 (H, W, 3) photo; raises ValueError for other arrays."""
        for photo in photos:
            check_photo(photo)
        found: list[Regions] = []
        # TF32 would change features by 1e-3, so that GPU and CPU features would differ.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            for start in range(0, len(photos), self.chunk_size):
                found += self._detect(photos[start : start + self.chunk_size])
        return found

    def _detect(self, photos: list[np.ndarray]) -> list[Regions]:
        ssd = self.ssd(self._channels_first([preprocess(photo) for photo in photos]))
        lite2_BCHW = self.lite2(self._channels_first([self._square(photo) for photo in photos]))

        confidences_BA, columns_BA = ssd.logits_BAC[..., self._columns].max(dim=-1)
        confidences_BA = confidences_BA.sigmoid()
        sizes_B2 = torch.tensor([[p.shape[1], p.shape[0]] for p in photos], dtype=torch.float32, device=self.device)
        sides_B14 = sizes_B2.repeat(1, 2)[:, None, :]
        boxes_BA4 = box_ops.decode_boxes(ssd.encodings_BA4, self.ssd.anchors_A4) * sides_B14
        boxes_BA4 = box_ops.fit_to_photo(boxes_BA4, sizes_B2, self.config.min_box_side)
        kept_BR = box_ops.greedy_nms(boxes_BA4, confidences_BA, self.config.nms_iou, REGIONS)

        boxes_BR4 = boxes_BA4.gather(1, kept_BR[..., None].expand(-1, -1, 4))
        parts = [
            box_ops.pool_regions(map_BCHW, boxes_BR4 / sides_B14, self.config.pool_samples)
            for map_BCHW in (lite2_BCHW, ssd.stride8_BCHW, ssd.stride16_BCHW)
        ]
        features_BRF = torch.cat([F.normalize(part, dim=-1) for part in parts], dim=-1)
        classes_BR = self._columns[columns_BA.gather(1, kept_BR)]
        arrays = (features_BRF, boxes_BR4, classes_BR, confidences_BA.gather(1, kept_BR))
        return [Regions(*photo) for photo in zip(*(a.cpu().numpy() for a in arrays), strict=True)]

    def _square(self, photo: np.ndarray) -> Tensor:
        """Resizes a photo for EfficientNet-Lite2: (side, side, 3) float32, normalised by mean and std."""
        side = self.config.lite2_side
        resized = Image.fromarray(photo).resize((side, side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(resized)).float().sub_(self._mean).div_(self._std)

    def _channels_first(self, photos_HW3: list[Tensor]) -> Tensor:
        """Stacks photos to (B, 3, H, W) on the device, in channels-last memory, where convolutions are fastest."""
        return torch.stack(photos_HW3).to(self.device).permute(0, 3, 1, 2)
