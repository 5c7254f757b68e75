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
@pytest.mark.parametrize(("H", "W"), [(19, 25), (1, 1), (63, 38), (6, 120)])
def test_roi_pool_equals_the_reference(device, H, W):
    map_CHW = torch.randn(5, H, W, generator=torch.Generator().manual_seed(0))
    x, y = 16.0 * W, 16.0 * H
    edges = [[0, 0, x, y], [x - 8, y - 8, x, y], [x - 1, 0, x, 5], [8, 8, 8, 8], [x, y, x, y], [0, 0, 0, 0]]
    boxes = torch.cat([random_boxes(40, 4, x, y), torch.tensor(edges)])
    found = roi_pool(window_maxima(map_CHW.to(device)), boxes.to(device)).cpu()
    np.testing.assert_array_equal(found.numpy(), reference_roi_pool(map_CHW.numpy(), boxes.tolist()))
    assert (found[-2] == 0).all(), "outside the map"
    assert (found < 0).any(), "negative maxima are kept"


def test_no_boxes():
    assert roi_pool(window_maxima(torch.ones(5, 3, 4)), torch.empty(0, 4)).shape == (0, 5, 14, 14)
