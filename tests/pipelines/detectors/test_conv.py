"""Tests of the folded SAME convolution against TensorFlow's definition."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pipelines.detectors.conv import SameConv, same_padding


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [
        (300, 3, 2, (0, 1)),
        (75, 3, 2, (1, 1)),
        (104, 5, 2, (1, 2)),
        (65, 5, 2, (2, 2)),
        (2, 3, 2, (0, 1)),
        (19, 3, 1, (1, 1)),
        (19, 1, 1, (0, 0)),
    ],
)
def test_same_padding_equals_tensorflow(side, kernel, stride, padding):
    assert same_padding(side, kernel, stride) == padding


@pytest.mark.parametrize("side", [1, 2, 3, 10, 13])
@pytest.mark.parametrize(("kernel", "stride", "depthwise"), [(1, 1, 0), (3, 1, 1), (3, 2, 1), (5, 2, 1), (3, 2, 0)])
def test_equals_explicit_padding_then_convolution_then_scale(side, kernel, stride, depthwise):
    generator = torch.Generator().manual_seed(side * 100 + kernel * 10 + stride)
    x = torch.randn(2, 6, side, side, generator=generator)
    out_channels, in_channels, groups = (6, 1, 6) if depthwise else (4, 6, 1)
    weight = torch.randn(out_channels, in_channels, kernel, kernel, generator=generator)
    scale, bias = torch.randn(2, out_channels, generator=generator)

    before, after = same_padding(side, kernel, stride)
    expected = F.conv2d(F.pad(x, (before, after, before, after)), weight, stride=stride, groups=groups)
    expected = (expected * scale[:, None, None] + bias[:, None, None]).clamp(0, 6)

    layer = SameConv(side, weight, bias, scale, stride)
    found = layer(x)
    assert found.shape[-1] == layer.side == -(-side // stride)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
