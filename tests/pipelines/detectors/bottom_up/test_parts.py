"""Each part of the bottom_up detector against a slow one, written from the specification."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.data
import torch
from torch.nn import functional as F

from pipelines.detectors.bottom_up import geometry
from pipelines.detectors.bottom_up.prepare import prepare, resized
from pipelines.detectors.bottom_up.resnet import Backbone, make_stage
from pipelines.detectors.bottom_up.roi_head import Predictor
from pipelines.detectors.bottom_up.roi_pool import roi_pool
from pipelines.detectors.bottom_up.rpn import ProposalHead, cell_anchors, grid_anchors, propose
from pipelines.detectors.bottom_up.selection import keep
from tests.support.bottom_up_checkpoint import RATIOS, SIZES

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def random_boxes(count: int, seed: int, width: float = 400, height: float = 300) -> torch.Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([width, height])
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


def slow_nms(boxes: list[list[float]], scores: list[float], threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


# The photo ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((300, 451), (600, 902)),
        ((480, 640), (600, 800)),
        ((600, 1000), (600, 1000)),
        ((375, 1242), (302, 1000)),
        ((1200, 900), (800, 600)),
        ((4000, 1000), (1000, 250)),
        ((1, 1), (600, 600)),
        ((1, 3000), (1, 1000)),
        ((90000, 20), (1000, 1)),
    ],
)
def test_sides_after_the_resize(size, wanted):
    assert resized(*size, 600, 1000) == wanted


@pytest.mark.parametrize(("shortest", "longest"), [(600, 1000), (100, 120), (300, 451)])
def test_pixels_are_those_of_a_plain_resize(shortest, longest):
    photo = skimage.data.chelsea()
    image, size = prepare(photo, shortest, longest)
    bgr = torch.from_numpy(photo[:, :, ::-1].copy()).permute(2, 0, 1).float()
    mean = torch.tensor([102.9801, 115.9465, 122.7717])[:, None, None]
    wanted = F.interpolate((bgr - mean)[None], size, mode="bilinear", align_corners=False)
    assert image.shape == wanted.shape
    torch.testing.assert_close(image, wanted, atol=0.02, rtol=0)  # positions are float64 here, float32 there


def test_strided_photos_are_read_as_what_they_show():
    mirrored = skimage.data.chelsea()[::3, ::-3]
    mirrored.flags.writeable = False
    assert torch.equal(prepare(mirrored, 60, 90)[0], prepare(mirrored.copy(), 60, 90)[0])


def test_a_line_of_pixels_is_filled_up_to_one_cell():
    image, size = prepare(np.full((1, 2000, 3), 200, np.uint8), 600, 1000)
    assert (tuple(image.shape), size) == ((1, 3, 16, 1000), (1, 1000))
    torch.testing.assert_close(image[0, :, 0, 7], 200 - torch.tensor([102.9801, 115.9465, 122.7717]))
    assert (image[:, :, 1:] == 0).all()


# The network -------------------------------------------------------------------------------------


def plain_conv(tensors, name, x, **how):
    x = F.conv2d(x, tensors[f"{name}.weight"], **how)
    norm = [tensors[f"{name}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *norm, training=False, eps=1e-5)


def plain_block(tensors, name, x, stride=1, dilation=1):
    inner = plain_conv(tensors, f"{name}.conv1", x, stride=stride).relu()
    inner = plain_conv(tensors, f"{name}.conv2", inner, padding=dilation, dilation=dilation).relu()
    if f"{name}.shortcut.weight" in tensors:
        x = plain_conv(tensors, f"{name}.shortcut", x, stride=stride)
    return (plain_conv(tensors, f"{name}.conv3", inner) + x).relu()


def test_the_backbone_is_the_resnet_of_the_specification(bottom_up_tensors):
    image, _ = prepare(skimage.data.chelsea(), 70, 100)
    x = plain_conv(bottom_up_tensors, "backbone.stem.conv1", image, stride=2, padding=3).relu()
    x = F.max_pool2d(x, 3, 2, padding=0, ceil_mode=True)
    for stage, blocks, stride in (("res2", 3, 1), ("res3", 4, 2), ("res4", 23, 2)):
        for i in range(blocks):
            x = plain_block(bottom_up_tensors, f"backbone.{stage}.{i}", x, stride if i == 0 else 1)
    found = Backbone(bottom_up_tensors)(image)
    assert found.shape == x.shape == (1, 1024, 5, 7)
    torch.testing.assert_close(found, x, atol=1e-3, rtol=1e-4)


def test_res5_keeps_its_size_and_is_dilated(bottom_up_tensors):
    x = wanted = torch.rand(2, 1024, 14, 14, generator=torch.Generator().manual_seed(0))
    for i in range(3):
        wanted = plain_block(bottom_up_tensors, f"roi_heads.res5.{i}", wanted, dilation=2)
    found = make_stage(bottom_up_tensors, "roi_heads.res5", 3, dilation=2)(x)
    assert found.shape == (2, 2048, 14, 14)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-4)


def test_classes_deltas_and_attributes_of_one_region_by_hand(bottom_up_tensors):
    feature = torch.rand(2048, generator=torch.Generator().manual_seed(1))
    t = {name.rpartition("box_predictor.")[2]: tensor for name, tensor in bottom_up_tensors.items()}
    logits = t["cls_score.weight"] @ feature + t["cls_score.bias"]
    hidden = torch.cat([feature, t["cls_embedding.weight"][int(logits.argmax())]])
    hidden = (t["fc_attr.weight"] @ hidden + t["fc_attr.bias"]).relu()
    attributes = (t["attr_score.weight"] @ hidden + t["attr_score.bias"]).softmax(0)[:400]
    deltas = (t["bbox_pred.weight"] @ feature + t["bbox_pred.bias"])[4 * 17 : 4 * 17 + 4]

    predictor = Predictor(bottom_up_tensors)
    found = predictor.class_logits(feature[None])
    torch.testing.assert_close(found[0], logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(predictor.box_deltas(feature[None], torch.tensor([17]))[0], deltas, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(predictor.attribute_probabilities(feature[None], found)[0], attributes)
    background = torch.zeros(1, 1601)
    background[0, 1600] = 9.0  # the background has an embedding of its own
    assert not torch.equal(predictor.attribute_probabilities(feature[None], background)[0], attributes)


# Proposals ---------------------------------------------------------------------------------------


def test_anchors_are_four_sizes_by_three_ratios_at_every_cell(bottom_up_tensors):
    anchors = grid_anchors(cell_anchors(bottom_up_tensors), 3, 5)
    place = 0
    for row in range(3):
        for column in range(5):
            for size in SIZES:
                for ratio in RATIOS:
                    x0, y0, x1, y1 = anchors[place].tolist()
                    assert (x1 - x0) * (y1 - y0) == pytest.approx(size**2, rel=1e-4)
                    assert (y1 - y0) / (x1 - x0) == pytest.approx(ratio, rel=1e-4)
                    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((16 * column, 16 * row), abs=1e-3)
                    place += 1
    assert place == len(anchors)


def test_scores_and_deltas_run_over_rows_columns_anchors(bottom_up_tensors):
    head = ProposalHead(bottom_up_tensors)
    x = torch.rand(1, 1024, 3, 5, generator=torch.Generator().manual_seed(0))
    scores, deltas = head(x)
    name = "proposal_generator.rpn_head"
    t = bottom_up_tensors
    hidden = F.conv2d(x, t[f"{name}.conv.weight"], t[f"{name}.conv.bias"], padding=1).relu()[0, :, 2, 1]
    cell = (2 * 5 + 1) * 12
    for a in (0, 5, 11):
        logit = t[f"{name}.objectness_logits.weight"][a, :, 0, 0] @ hidden + t[f"{name}.objectness_logits.bias"][a]
        rows = t[f"{name}.anchor_deltas.weight"][4 * a : 4 * a + 4, :, 0, 0] @ hidden
        torch.testing.assert_close(scores[cell + a], logit, atol=1e-4, rtol=1e-4)
        wanted = rows + t[f"{name}.anchor_deltas.bias"][4 * a : 4 * a + 4]
        torch.testing.assert_close(deltas[cell + a], wanted, atol=1e-4, rtol=1e-4)


def test_deltas_move_and_scale_a_box():
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # 20 x 40 about (20, 40)
    deltas = torch.tensor([[1.0, -0.5, math.log(2), 0.0]])
    assert geometry.apply_deltas(deltas, box, (1, 1, 1, 1))[0].tolist() == pytest.approx([20, 0, 60, 40])
    halved = geometry.apply_deltas(deltas * 10, box, (10, 10, 10, 10))
    assert halved[0].tolist() == pytest.approx([20, 0, 60, 40])
    huge = geometry.apply_deltas(torch.tensor([[0.0, 0.0, 500.0, 0.0]]), box, (1, 1, 1, 1))
    assert (huge[0, 2] - huge[0, 0]).item() == pytest.approx(20 * 1000 / 16, rel=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [0, 1, 400])
def test_nms_is_greedy(device, count):
    boxes = random_boxes(count, seed=count)
    boxes[: count // 2] = boxes[0:1] + random_boxes(count // 2, 2, 40, 40) if count > 1 else boxes[: count // 2]
    wanted = slow_nms(boxes.tolist(), [-float(i) for i in range(count)], 0.7)
    found = geometry.nms(boxes.to(device), 0.7, most=10_000)
    assert found.tolist() == wanted
    assert geometry.nms(boxes.to(device), 0.7, most=5).tolist() == wanted[:5]


@pytest.mark.parametrize("device", DEVICES)
def test_proposals_against_loops(device):
    generator = torch.Generator().manual_seed(3)
    anchors = random_boxes(300, 1) + torch.randn(300, 1, generator=generator) * 100
    scores = torch.randn(300, generator=generator)
    deltas = torch.randn(300, 4, generator=generator) * 0.2
    found = propose(
        scores.to(device), deltas.to(device), anchors.to(device), (300, 400), candidates=200, iou=0.7, fewest=1, most=60
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
    assert len(boxes) < 200, "some anchors leave the photo"
    wanted = [boxes[i] for i in slow_nms(boxes, [-float(i) for i in range(len(boxes))], 0.7)][:60]
    np.testing.assert_allclose(found.cpu().numpy(), wanted, atol=1e-3)


def test_too_few_survivors_are_filled_up_by_the_best_that_were_passed_over():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [500, 500, 510, 510], [20, 0, 30, 10], [0, 0, 9, 10]])
    scores = torch.tensor([5.0, 4, 3, 2, 1])
    found = [
        propose(scores, torch.zeros(5, 4), anchors, (50, 50), 5, 0.7, fewest, 5).tolist() for fewest in (1, 2, 3, 4, 5)
    ]
    assert found[0] == found[1] == [[0, 0, 10, 10], [20, 0, 30, 10]]  # survivors: two
    assert found[2] == [*found[0], [0, 0, 10, 9]]  # then the suppressed, best first
    assert found[4] == [*found[2], [0, 0, 9, 10], [50, 50, 50, 50]]  # last, what lies outside the photo


# Regions -----------------------------------------------------------------------------------------


def slow_roi_pool(map_CHW: np.ndarray, boxes: list[list[float]]) -> np.ndarray:
    """As written in Fast R-CNN and its Caffe layer: rounded corners, inclusive; bins from floor to ceil; clipped."""
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
def test_roi_pool_is_the_loop_over_bins(device):
    map_CHW = torch.randn(5, 19, 25, generator=torch.Generator().manual_seed(0))
    edges = [[0, 0, 400, 300], [392, 292, 400, 300], [399, 0, 400, 5], [8, 8, 8, 8], [400, 300, 400, 300], [0, 0, 0, 0]]
    boxes = torch.cat([random_boxes(40, 4), torch.tensor(edges).float()])
    found = roi_pool(map_CHW.to(device), boxes.to(device)).cpu()
    np.testing.assert_array_equal(found.numpy(), slow_roi_pool(map_CHW.numpy(), boxes.tolist()))
    assert (found[-2] == 0).all(), "wholly past the map"
    assert (found[0] < 0).any(), "negative maxima stay"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ties", [False, True])
def test_best_surviving_scores_are_those_of_nms_class_by_class(device, ties):
    generator = torch.Generator().manual_seed(5)
    boxes = random_boxes(40, 6, 200, 200)
    scores = (torch.randn(40, 30, generator=generator) * 3).softmax(dim=1)
    if ties:
        scores = (scores * 8).round() / 8
    best = [0.0] * 40
    for c in range(30):
        for i in slow_nms(boxes.tolist(), scores[:, c].tolist(), 0.3):
            best[i] = max(best[i], scores[i, c].item())
    found = geometry.best_surviving_scores(boxes.to(device), scores.to(device), 0.3)
    assert found.tolist() == best
    assert (found.cpu() < scores.amax(1)).any(), "some lost their best class"


@pytest.mark.parametrize(
    ("fewest", "most", "wanted"),
    [
        (1, 6, [3, 1, 4]),  # those that reach 0.2, best first
        (4, 6, [3, 1, 4, 0]),  # no fewer than 4
        (1, 2, [3, 1]),  # no more than 2
        (2, 2, [3, 1]),
        (6, 6, [3, 1, 4, 0, 5, 2]),
    ],
)
def test_what_is_kept(fewest, most, wanted):
    max_conf = torch.tensor([0.19, 0.5, 0.0, 0.9, 0.2, 0.1])
    assert keep(max_conf, 0.2, fewest, most).tolist() == wanted
