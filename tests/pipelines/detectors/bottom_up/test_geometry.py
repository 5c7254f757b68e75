"""Tests of the box operations against slow reference implementations."""

from __future__ import annotations

import math

import pytest
import torch

from pipelines.detectors.bottom_up import geometry
from tests.support.box_oracle import random_boxes, reference_nms

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def test_deltas_move_and_scale_a_box():
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # 20 x 40 about (20, 40)
    deltas = torch.tensor([[1.0, -0.5, math.log(2), 0.0]])
    assert geometry.apply_deltas(deltas, box, (1, 1, 1, 1))[0].tolist() == pytest.approx([20, 0, 60, 40])
    weighted = geometry.apply_deltas(deltas * 10, box, (10, 10, 10, 10))
    assert weighted[0].tolist() == pytest.approx([20, 0, 60, 40])
    huge = geometry.apply_deltas(torch.tensor([[0.0, 0.0, 500.0, 0.0]]), box, (1, 1, 1, 1))
    assert (huge[0, 2] - huge[0, 0]).item() == pytest.approx(20 * 1000 / 16, rel=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [0, 1, 400])
def test_nms_equals_the_greedy_reference(device, count):
    boxes = random_boxes(count, seed=count)
    boxes[: count // 2] = boxes[0:1] + random_boxes(count // 2, 2, 40, 40) if count > 1 else boxes[: count // 2]
    expected = reference_nms(boxes.tolist(), [-float(i) for i in range(count)], 0.7)
    found = geometry.nms(boxes.to(device), 0.7, max_boxes=10_000)
    assert found.tolist() == expected
    assert geometry.nms(boxes.to(device), 0.7, max_boxes=5).tolist() == expected[:5]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ties", [False, True])
def test_best_surviving_scores_equal_nms_per_class(device, ties):
    generator = torch.Generator().manual_seed(5)
    boxes = random_boxes(40, 6, 200, 200)
    scores = (torch.randn(40, 30, generator=generator) * 3).softmax(dim=1)
    if ties:
        scores = (scores * 8).round() / 8
    best = [0.0] * 40
    for c in range(30):
        for i in reference_nms(boxes.tolist(), scores[:, c].tolist(), 0.3):
            best[i] = max(best[i], scores[i, c].item())
    found = geometry.best_surviving_scores(boxes.to(device), scores.to(device), 0.3)
    assert found.tolist() == best
    assert (found.cpu() < scores.amax(1)).any(), "some boxes are suppressed in their best class"
