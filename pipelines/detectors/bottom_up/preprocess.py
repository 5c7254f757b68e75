"""Prepares a photo for the backbone: resize, RGB to BGR, subtract the mean.

Shapes: H x W pixels, Y and X resized rows and columns.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.detectors.bottom_up.checkpoint_keys import STRIDE

_MEAN_BGR = (102.9801, 115.9465, 122.7717)


def resized(height: int, width: int, shortest: int, longest: int) -> tuple[int, int]:
    """Returns height and width scaled so that the shorter side is `shortest`, unless the longer exceeds `longest`.

    In that case the longer side is `longest`. Sides are rounded half up, like in the public PyTorch port, and at least
    one pixel.
    """
    scale = min(shortest / min(height, width), longest / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def preprocess(
    photo: np.ndarray, shortest: int, longest: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, tuple[int, int]]:
    """Returns the input (1, 3, H, W) float32 for an RGB uint8 photo, and the resized photo's (height, width) within it.

    They are H and W unless a side has fewer than 16 pixels: it is then padded to 16 with zeros, the mean colour, so
    that the backbone's map has at least one cell. The resize is bilinear with half-pixel centres and no antialiasing,
    like the original (cv2) and the port (torch). Only sampled rows are copied to the device and only sampled pixels
    converted to float, which keeps very large photos cheap.
    """
    height, width = resized(photo.shape[0], photo.shape[1], shortest, longest)
    top_Y, bottom_Y, down_Y = _samples(photo.shape[0], height)
    left_X, right_X, along_X = (torch.from_numpy(part).to(device) for part in _samples(photo.shape[1], width))
    upper, lower = (
        torch.lerp(rows[:, left_X].float(), rows[:, right_X].float(), along_X[:, None])
        for rows in (torch.from_numpy(photo[of_Y]).to(device) for of_Y in (top_Y, bottom_Y))
    )
    rgb_HW3 = torch.lerp(upper, lower, torch.from_numpy(down_Y).to(device)[:, None, None])
    bgr_HW3 = rgb_HW3.flip(-1) - torch.tensor(_MEAN_BGR, device=device)
    padded = F.pad(bgr_HW3.permute(2, 0, 1), (0, max(0, STRIDE - width), 0, max(0, STRIDE - height)))
    return padded[None].contiguous(), (height, width)


def _samples(side: int, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns low index, high index and weight of the high one for `samples` linear samples over `side` pixels."""
    at = np.maximum((np.arange(samples) + 0.5) * (side / samples) - 0.5, 0)
    low = np.floor(at).astype(np.int64)
    return low, np.minimum(low + 1, side - 1), (at - low).astype(np.float32)
