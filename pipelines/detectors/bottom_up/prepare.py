"""From a photo to what the backbone sees: resized, BGR, mean subtracted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.detectors.bottom_up.layout import STRIDE

_MEAN_BGR = (102.9801, 115.9465, 122.7717)


def resized(height: int, width: int, shortest: int, longest: int) -> tuple[int, int]:
    """Height and width whose shortest side is `shortest`, or whose longest is `longest` where it would be longer.

    Rounded half up, as the public PyTorch port does; at least one pixel.
    """
    scale = min(shortest / min(height, width), longest / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def prepare(photo: np.ndarray, shortest: int, longest: int) -> tuple[Tensor, tuple[int, int]]:
    """(1, 3, H, W) float32 of an RGB uint8 photo, and the (height, width) that the resized photo fills of it.

    Those are H and W but for photos so narrow that a side is under 16 pixels: zeros, the mean colour, fill that side
    up to 16, the least that gives the backbone a cell. Bilinear with half-pixel centres and no smoothing, as in the
    original (cv2) and the port (torch). Only pixels that are sampled become floats, so that a huge photo costs little.
    """
    height, width = resized(photo.shape[0], photo.shape[1], shortest, longest)
    top_Y, bottom_Y, down_Y = _samples(photo.shape[0], height)
    left_X, right_X, along_X = _samples(photo.shape[1], width)
    along_X1 = along_X[:, None]
    upper, lower = (
        torch.lerp(torch.from_numpy(rows[:, left_X]).float(), torch.from_numpy(rows[:, right_X]).float(), along_X1)
        for rows in (photo[top_Y], photo[bottom_Y])
    )
    rgb_HW3 = torch.lerp(upper, lower, down_Y[:, None, None])
    bgr_HW3 = rgb_HW3.flip(-1) - torch.tensor(_MEAN_BGR)
    padded = F.pad(bgr_HW3.permute(2, 0, 1), (0, max(0, STRIDE - width), 0, max(0, STRIDE - height)))
    return padded[None].contiguous(), (height, width)


def _samples(side: int, samples: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Low index, high index and weight of the high one for each of `samples` linear samples over `side` pixels."""
    at = np.maximum((np.arange(samples) + 0.5) * (side / samples) - 0.5, 0)
    low = np.floor(at).astype(np.int64)
    return low, np.minimum(low + 1, side - 1), torch.from_numpy((at - low).astype(np.float32))
