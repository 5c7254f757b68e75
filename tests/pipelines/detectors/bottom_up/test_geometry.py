"""Tests of the box operations against slow reference implementations."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

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
@pytest.mark.parametrize("block_size", [1, 50, 137])
def test_nms_does_not_depend_on_the_size_of_a_block(monkeypatch, device, block_size):
    boxes = torch.cat([random_boxes(100, 3, 60, 60).round()] * 3)  # each box three times
    expected = reference_nms(boxes.tolist(), [-float(i) for i in range(300)], 0.3)
    monkeypatch.setattr(geometry, "_BLOCK_SIZE", block_size)
    for max_boxes in (1, len(expected) - 1, 300):
        assert geometry.nms(boxes.to(device), 0.3, max_boxes).tolist() == expected[:max_boxes]


@pytest.mark.parametrize("device", DEVICES)
def test_every_second_box_of_a_chain_survives(device):
    x = torch.arange(200.0) * 6
    chain = torch.stack([x, x * 0, x + 10, x * 0 + 10], dim=1)  # 4 of 16 shared with the next one only
    assert geometry.nms(chain.to(device), 0.2, 200).tolist() == list(range(0, 200, 2))
    scores = torch.stack([torch.linspace(1, 0.5, 200), torch.linspace(0.5, 1, 200)], dim=1)
    found = geometry.best_surviving_scores(chain.to(device), scores.to(device), 0.2).cpu()
    torch.testing.assert_close(found, torch.where(torch.arange(200) % 2 == 0, *scores.unbind(1)), rtol=0, atol=0)


def test_suppression_takes_few_operations():
    """On a GPU, every operation is a launch: one or more for each box would take most of a photo's time."""
    boxes = random_boxes(900, 7, 200, 200)
    scores = torch.rand(900, 20, generator=torch.Generator().manual_seed(7))
    with CountOperations() as counter:
        geometry.nms(boxes, 0.7, max_boxes=900)
        geometry.best_surviving_scores(boxes, scores, 0.3)
    assert counter.operations < 700


class CountOperations(TorchDispatchMode):
    """Counts the operations of torch, views included."""

    operations = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        self.operations += 1
        return operation(*arguments, **(options or {}))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ties", [False, True])
def test_best_surviving_scores_equal_nms_per_class(device, ties):
    generator = torch.Generator().manual_seed(5)
    boxes = torch.cat([random_boxes(120, 6, 200, 200), random_boxes(20, 6, 200, 200)])  # 20 of them twice
    scores = (torch.randn(140, 30, generator=generator) * 3).softmax(dim=1)
    if ties:
        scores = (scores * 8).round() / 8
    best = [0.0] * 140
    for c in range(30):
        for i in reference_nms(boxes.tolist(), scores[:, c].tolist(), 0.3):
            best[i] = max(best[i], scores[i, c].item())
    found = geometry.best_surviving_scores(boxes.to(device), scores.to(device), 0.3)
    assert found.tolist() == best
    assert (found.cpu() < scores.amax(1)).any(), "some boxes are suppressed in their best class"
