"""The `huggingface_patches` detector: the cells of a grid over the photo, each with the mean of a backbone's patches.

The backbone is any vision model: transformers (ViT, DINOv2, CLIP, SigLIP) or a convolutional network. The photo is
resized to the square that the model's preprocessing gives, without its centre crop, so that the cells cover all of it.

Shapes: B photos, N cells of a side, D feature width, P patches of a side, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.detectors.batches import detect_in_batches
from pipelines.detectors.contract import Regions, check_photo
from pipelines.detectors.exact_float32 import exact_float32
from pipelines.detectors.huggingface.loading import BATCH_SIZES, load_network, load_processor, processed

if TYPE_CHECKING:
    from pipelines.detectors.huggingface.config import PatchesConfig


class PatchDetector:
    """Implements `contract.Detector`. The only class is "patch", and all confidences are 1."""

    def __init__(self, spec: PatchesConfig, device: str = "cpu") -> None:
        self.spec, self.device = spec, torch.device(device)
        self.batch_size = BATCH_SIZES[self.device.type]
        folder = spec.verified_folder()
        self.processor = load_processor(spec, folder)
        self.side = _input_side(self.processor)
        network = load_network(spec, folder, "AutoModel", self.device)
        self.network = getattr(network, "vision_model", network)
        self._check()

    def __call__(self, photos: list[np.ndarray]) -> list[Regions]:
        """Returns the regions of each RGB uint8 (H, W, 3) photo; raises ValueError for other arrays."""
        for photo in photos:
            check_photo(photo)
        images = [self._input(photo) for photo in photos]

        def detect(images_B3SS: Tensor, positions: list[int]) -> list[Regions]:
            features_BND = self._cells(self._map(images_B3SS.to(self.device))).cpu().numpy()
            sizes = [photos[position].shape for position in positions]
            return [self._regions(*each) for each in zip(features_BND, sizes, strict=True)]

        with torch.inference_mode(), exact_float32():
            return detect_in_batches(images, self.batch_size, detect)

    def _input(self, photo: np.ndarray) -> Tensor:
        if hasattr(self.processor, "crop_pct"):  # ConvNeXt's own resize keeps the photo's shape, and crops it
            square = Image.fromarray(photo).resize((self.side, self.side), Image.Resampling(self.processor.resample))
            return processed(self.processor, np.asarray(square), do_resize=False)
        size = {"height": self.side, "width": self.side}
        return processed(self.processor, photo, do_resize=True, size=size, do_center_crop=False)

    def _map(self, images_B3SS: Tensor) -> Tensor:
        """Returns the patches as a map (B, P, P, D); the other tokens (class, registers) come first."""
        hidden = self.network(pixel_values=images_B3SS).last_hidden_state
        if hidden.ndim == 4:  # channels first
            return hidden.permute(0, 2, 3, 1)
        P = self.side // int(self.spec.vision.patch_size)
        return hidden[:, hidden.shape[1] - P * P :].unflatten(1, (P, P))

    def _cells(self, map_BPPD: Tensor) -> Tensor:
        """Returns the mean (B, N * N, D) of the patches in each cell, in rows; a patch counts by its area in it."""
        rows_NP, columns_NP = (_fractions(self.spec.grid, side).to(map_BPPD) for side in map_BPPD.shape[1:3])
        return torch.einsum("np,mq,bpqd->bnmd", rows_NP, columns_NP, map_BPPD).flatten(1, 2)

    def _regions(self, features_ND: np.ndarray, size: tuple[int, ...]) -> Regions:
        N = self.spec.grid
        y, x = (np.linspace(0, side, N + 1, dtype=np.float32) for side in size[:2])
        low, high = (
            np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2) for xs, ys in ((x[:-1], y[:-1]), (x[1:], y[1:]))
        )
        boxes_N4 = np.concatenate([low, high], axis=1)
        return Regions(features_ND, boxes_N4, np.zeros(N * N, np.int64), np.ones(N * N, np.float32))

    def _check(self) -> None:
        """Runs the network on a blank photo. Raises UserError unless it returns a map of the width of the spec."""
        try:
            with torch.inference_mode():
                shape = self._map(self._input(np.zeros((8, 8, 3), np.uint8))[None].to(self.device)).shape
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise self.spec.unusable(f"it does not map photos to patches: {error}") from error
        if shape[-1] != self.spec.feature_dim:
            raise self.spec.unusable(f"its patches have {shape[-1]} numbers, and its config {self.spec.feature_dim}")


def _input_side(processor: Any) -> int:
    """Returns the side in pixels of the square input: that of the centre crop, else the size of the resize."""
    cropped = getattr(processor, "do_center_crop", False) and getattr(processor, "crop_size", None)
    size = dict(cropped or processor.size)
    return int(size.get("height") or size.get("shortest_edge") or 0)


def _fractions(cells: int, patches: int) -> Tensor:
    """Returns (N, P): the fraction of each patch along a side in the mean of each of N equal cells."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * patches / cells
    at_P = torch.arange(patches, dtype=torch.float64)
    overlap_NP = (edges[1:, None].minimum(at_P + 1) - edges[:-1, None].maximum(at_P)).clamp(min=0)
    return overlap_NP / overlap_NP.sum(dim=1, keepdim=True)
