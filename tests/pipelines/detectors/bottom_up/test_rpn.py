"""Tests of the region proposal network: anchors, head, and selected proposals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipelines.detectors.bottom_up.rpn import ProposalHead, cell_anchors, grid_anchors, propose
from tests.support.bottom_up_checkpoint import RATIOS, SIZES
from tests.support.box_oracle import random_boxes, reference_nms

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def test_every_cell_has_anchors_of_four_sizes_and_three_ratios(bottom_up_tensors):
    anchors = grid_anchors(cell_anchors(bottom_up_tensors), 3, 5)
    index = 0
    for row in range(3):
        for column in range(5):
            for size in SIZES:
                for ratio in RATIOS:
                    x0, y0, x1, y1 = anchors[index].tolist()
                    assert (x1 - x0) * (y1 - y0) == pytest.approx(size**2, rel=1e-4)
                    assert (y1 - y0) / (x1 - x0) == pytest.approx(ratio, rel=1e-4)
                    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((16 * column, 16 * row), abs=1e-3)
                    index += 1
    assert index == len(anchors)


def test_scores_and_deltas_are_ordered_by_row_column_and_anchor(bottom_up_tensors):
    head = ProposalHead(bottom_up_tensors)
    x = torch.rand(1, 1024, 3, 5, generator=torch.Generator().manual_seed(0))
    (scores,), (deltas,) = head(x)
    name = "proposal_generator.rpn_head"
    t = bottom_up_tensors
    hidden = F.conv2d(x, t[f"{name}.conv.weight"], t[f"{name}.conv.bias"], padding=1).relu()[0, :, 2, 1]
    cell = (2 * 5 + 1) * 12
    for a in (0, 5, 11):
        logit = t[f"{name}.objectness_logits.weight"][a, :, 0, 0] @ hidden + t[f"{name}.objectness_logits.bias"][a]
        rows = t[f"{name}.anchor_deltas.weight"][4 * a : 4 * a + 4, :, 0, 0] @ hidden
        torch.testing.assert_close(scores[cell + a], logit, atol=1e-4, rtol=1e-4)
        expected = rows + t[f"{name}.anchor_deltas.bias"][4 * a : 4 * a + 4]
        torch.testing.assert_close(deltas[cell + a], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_proposals_equal_the_reference(device):
    generator = torch.Generator().manual_seed(3)
    anchors = random_boxes(300, 1) + torch.randn(300, 1, generator=generator) * 100
    scores = torch.randn(300, generator=generator)
    deltas = torch.randn(300, 4, generator=generator) * 0.2
    found = propose(
        scores.to(device),
        deltas.to(device),
        anchors.to(device),
        (300, 400),
        candidates=200,
        iou=0.7,
        min_boxes=1,
        max_boxes=60,
    )
    boxes, best = [], sorted(range(300), key=lambda i: -scores[i])[:200]
    for i in best:
        (x0, y0, x1, y1), (dx, dy, dw, dh) = anchors[i].tolist(), deltas[i].tolist()
        width, height = x1 - x0, y1 - y0
        x, y = x0 + width / 2 + dx * width, y0 + height / 2 + dy * height
        width, height = width * math.exp(dw), height * math.exp(dh)
        box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        boxes.append([min(max(v, 0), limit) for v, limit in zip(box, (400, 300, 400, 300), strict=True)])
    boxes = [box for box in boxes if box[2] > box[0] and box[3] > box[1]]
    assert len(boxes) < 200, "some anchors are outside the photo"
    expected = [boxes[i] for i in reference_nms(boxes, [-float(i) for i in range(len(boxes))], 0.7)][:60]
    np.testing.assert_allclose(found.cpu().numpy(), expected, atol=1e-3)


def test_suppressed_boxes_follow_if_too_few_survive():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [500, 500, 510, 510], [20, 0, 30, 10], [0, 0, 9, 10]])
    scores = torch.tensor([5.0, 4, 3, 2, 1])
    found = [
        propose(scores, torch.zeros(5, 4), anchors, (50, 50), 5, 0.7, fewest, 5).tolist() for fewest in (1, 2, 3, 4, 5)
    ]
    assert found[0] == found[1] == [[0, 0, 10, 10], [20, 0, 30, 10]]  # two survivors
    assert found[2] == [*found[0], [0, 0, 10, 9]]  # then the suppressed ones by score
    assert found[4] == [*found[2], [0, 0, 9, 10], [50, 50, 50, 50]]  # last, boxes outside the photo
