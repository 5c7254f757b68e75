"""Tests of the backbone and of res5 against a reference with separate batch norms."""

from __future__ import annotations

import skimage.data
import torch
from torch.nn import functional as F

from pipelines.detectors.bottom_up.preprocess import preprocess
from pipelines.detectors.bottom_up.resnet import Backbone, make_layer


def reference_conv(tensors, name, x, **how):
    x = F.conv2d(x, tensors[f"{name}.weight"], **how)
    norm = [tensors[f"{name}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *norm, training=False, eps=1e-5)


def reference_block(tensors, name, x, stride=1, dilation=1):
    inner = reference_conv(tensors, f"{name}.conv1", x, stride=stride).relu()
    inner = reference_conv(tensors, f"{name}.conv2", inner, padding=dilation, dilation=dilation).relu()
    if f"{name}.shortcut.weight" in tensors:
        x = reference_conv(tensors, f"{name}.shortcut", x, stride=stride)
    return (reference_conv(tensors, f"{name}.conv3", inner) + x).relu()


def test_the_backbone_equals_the_reference(bottom_up_tensors):
    image, _ = preprocess(skimage.data.chelsea(), 70, 100)
    x = reference_conv(bottom_up_tensors, "backbone.stem.conv1", image, stride=2, padding=3).relu()
    x = F.max_pool2d(x, 3, 2, padding=0, ceil_mode=True)
    for layer, blocks, stride in (("res2", 3, 1), ("res3", 4, 2), ("res4", 23, 2)):
        for i in range(blocks):
            x = reference_block(bottom_up_tensors, f"backbone.{layer}.{i}", x, stride if i == 0 else 1)
    found = Backbone(bottom_up_tensors)(image)
    assert found.shape == x.shape == (1, 1024, 5, 7)
    torch.testing.assert_close(found, x, atol=1e-3, rtol=1e-4)


def test_res5_keeps_its_size_and_is_dilated(bottom_up_tensors):
    x = expected = torch.rand(2, 1024, 14, 14, generator=torch.Generator().manual_seed(0))
    for i in range(3):
        expected = reference_block(bottom_up_tensors, f"roi_heads.res5.{i}", expected, dilation=2)
    found = make_layer(bottom_up_tensors, "roi_heads.res5", 3, dilation=2)(x)
    assert found.shape == (2, 2048, 14, 14)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)
