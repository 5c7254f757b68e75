"""Tests of the box operations against slow reference implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipelines.detectors.boxes import decode_boxes, fit_to_photo, greedy_nms, pool_regions


def random_boxes(batch: int, count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(batch, count, 2, generator=generator) * 0.7
    return torch.cat([low, low + 0.02 + torch.rand(batch, count, 2, generator=generator) * 0.6], dim=-1)


def slow_iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area - width * height)


def slow_nms(boxes: list[list[float]], scores: list[float], iou: float, keep: int) -> list[int]:
    """Returns NMS over all boxes by score, followed by the suppressed ones by score."""
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    survivors: list[int] = []
    for i in order:
        if all(slow_iou(boxes[i], boxes[j]) <= iou for j in survivors):
            survivors.append(i)
    return (survivors + [i for i in order if i not in survivors])[:keep]


@pytest.mark.parametrize("iou", [0.3, 0.7])
def test_nms_equals_the_reference(iou):
    boxes = random_boxes(3, 150, seed=1)
    scores = torch.rand(3, 150, generator=torch.Generator().manual_seed(2))
    found = greedy_nms(boxes, scores, iou, keep=36)
    for b in range(3):
        assert found[b].tolist() == slow_nms(boxes[b].tolist(), scores[b].tolist(), iou, 36)


def test_nms_appends_the_best_suppressed_boxes():
    boxes = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 0.99], [0, 0, 0.99, 1], [0.5, 0.5, 1.5, 1.5]]]).float()
    scores = torch.tensor([[0.9, 0.2, 0.8, 0.1]])
    assert greedy_nms(boxes, scores, 0.7, keep=4).tolist() == [[0, 3, 2, 1]]


def test_nms_of_equal_boxes_and_scores_keeps_their_order():
    boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 50, 4)
    found = greedy_nms(boxes, torch.full((1, 50), 0.5), 0.7, keep=36)
    assert found.tolist() == [list(range(36))]


def test_nms_refuses_to_keep_more_boxes_than_exist():
    with pytest.raises(ValueError, match="keep"):
        greedy_nms(random_boxes(1, 5, 0), torch.rand(1, 5), 0.7, keep=6)


def slow_pool(cells: np.ndarray, box: list[float], samples: int) -> np.ndarray:
    """Returns the mean over a grid of bilinear samples; `cells` is (C, H, W)."""
    _, H, W = cells.shape
    total = np.zeros(cells.shape[0])
    for i in range(samples):
        for j in range(samples):
            y = (box[1] + (box[3] - box[1]) * (i + 0.5) / samples) * H - 0.5
            x = (box[0] + (box[2] - box[0]) * (j + 0.5) / samples) * W - 0.5
            y, x = min(max(y, 0), H - 1), min(max(x, 0), W - 1)
            y0, x0 = math.floor(y), math.floor(x)
            y1, x1 = min(y0 + 1, H - 1), min(x0 + 1, W - 1)
            top = cells[:, y0, x0] * (1 - (x - x0)) + cells[:, y0, x1] * (x - x0)
            bottom = cells[:, y1, x0] * (1 - (x - x0)) + cells[:, y1, x1] * (x - x0)
            total += top * (1 - (y - y0)) + bottom * (y - y0)
    return total / samples**2


def test_pooling_equals_the_mean_of_single_samples():
    maps = torch.rand(2, 5, 9, 13, generator=torch.Generator().manual_seed(3))
    boxes = random_boxes(2, 8, seed=4).clamp(0, 1)
    boxes[0, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    boxes[0, 1] = torch.tensor([0.999, 0.0, 1.0, 0.001])  # a sliver in the corner
    found = pool_regions(maps, boxes, samples=7)
    assert found.shape == (2, 8, 5)
    for b in range(2):
        for r in range(8):
            expected = slow_pool(maps[b].double().numpy(), boxes[b, r].tolist(), 7)
            np.testing.assert_allclose(found[b, r].numpy(), expected, atol=2e-6)


def test_pooling_maps_x_to_columns():
    maps = torch.zeros(1, 1, 4, 4)
    maps[..., 3] = 1.0  # the right column
    left, right = [0.0, 0.0, 0.25, 1.0], [0.75, 0.0, 1.0, 1.0]
    found = pool_regions(maps, torch.tensor([[left, right]]), samples=7)[0, :, 0]
    assert found[0] == 0
    assert found[1] > 0.85


def test_decode_implements_the_box_coder_of_ssd():
    anchors = torch.tensor([[0.1, 0.2, 0.5, 0.8]])  # y0 x0 y1 x1: centre 0.3, 0.5, height 0.4, width 0.6
    deltas = torch.tensor([[[1.0, -2.0, 5 * math.log(2), 0.0]]])
    # centre y 0.3 + 1 / 10 * 0.4 = 0.34, x 0.5 - 2 / 10 * 0.6 = 0.38; height 2 * 0.4, width 0.6
    expected = [0.38 - 0.3, 0.34 - 0.4, 0.38 + 0.3, 0.34 + 0.4]
    np.testing.assert_allclose(decode_boxes(deltas, anchors)[0, 0].numpy(), expected, atol=1e-6)


def test_boxes_are_clipped_and_thin_ones_widened():
    sizes = torch.tensor([[50.0, 20.0], [1.0, 1.0]])
    boxes = torch.tensor([[-5, -5, 60, 30], [49.9, 3, 49.95, 9], [70, 40, 80, 50], [-9, -9, -8, -8]])
    found = fit_to_photo(boxes.expand(2, 4, 4), sizes, min_side=1.0)
    assert found[0].tolist() == [[0, 0, 50, 20], [49, 3, 50, 9], [49, 19, 50, 20], [0, 0, 1, 1]]
    assert found[1].tolist() == [[0, 0, 1, 1]] * 4
