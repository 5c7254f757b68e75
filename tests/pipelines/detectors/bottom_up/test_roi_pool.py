"""Tests of RoIPool against loops over boxes and bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipelines.detectors.bottom_up.roi_pool import roi_pool, window_maxima
from tests.support.box_oracle import random_boxes

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def reference_roi_pool(map_CHW: np.ndarray, boxes: list[list[float]]) -> np.ndarray:
    """RoIPool as in Fast R-CNN's Caffe layer: rounded inclusive corners, bins from floor to ceil, clipped."""
    C, H, W = map_CHW.shape
    pooled = np.zeros((len(boxes), C, 14, 14), np.float32)
    for r, box in enumerate(boxes):
        x0, y0, x1, y1 = (math.floor(v / 16 + 0.5) for v in box)
        columns, rows = max(x1 - x0 + 1, 1), max(y1 - y0 + 1, 1)
        for i in range(14):
            for j in range(14):
                top, bottom = y0 + i * rows // 14, y0 - (-(i + 1) * rows // 14)
                left, right = x0 + j * columns // 14, x0 - (-(j + 1) * columns // 14)
                bin_ = map_CHW[:, min(top, H) : min(bottom, H), min(left, W) : min(right, W)]
                if bin_.size:
                    pooled[r, :, i, j] = bin_.max(axis=(1, 2))
    return pooled


@pytest.mark.parametrize("device", DEVICES)
def test_roi_pool_equals_the_reference(device):
    map_CHW = torch.randn(5, 19, 25, generator=torch.Generator().manual_seed(0))
    edges = [[0, 0, 400, 300], [392, 292, 400, 300], [399, 0, 400, 5], [8, 8, 8, 8], [400, 300, 400, 300], [0, 0, 0, 0]]
    boxes = torch.cat([random_boxes(40, 4), torch.tensor(edges).float()])
    found = roi_pool(window_maxima(map_CHW.to(device)), boxes.to(device)).cpu()
    np.testing.assert_array_equal(found.numpy(), reference_roi_pool(map_CHW.numpy(), boxes.tolist()))
    assert (found[-2] == 0).all(), "outside the map"
    assert (found[0] < 0).any(), "negative maxima are kept"
