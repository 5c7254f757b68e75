"""SSDLite-MobileNetV2 (COCO, 90 ids) in torch, built from the tensors of the original TF.js graph.

Notable features:

- SAME padding is asymmetric for stride 2 on an even side.
- The first head reads the expanded map inside block 13 of the backbone, the second the backbone's last map.
- Anchors are a constant of the graph and not computed.
- The resize is TensorFlow's legacy bilinear one, with samples at i * in / out (no half-pixel shift).

Parity with the original runtime is tested in tests/pipelines/detectors/test_ssdlite.py.

Shapes: B photos, A anchors, C channels or classes, H x W pixels or cells, Y and X resized rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.detectors.conv import InvertedResidual, SameConv

SIDE = 300
CLASSES = 91
"""Columns of the logits: column 0 is background, column i is COCO id i."""
_STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
"""Stride of the depthwise convolution of each block."""
_EXTRA = ("2_3x3_s2_512", "3_3x3_s2_256", "4_3x3_s2_256", "5_3x3_s2_128")
_EXTRA_SQUEEZE = ("2_1x1_256", "3_1x1_128", "4_1x1_128", "5_1x1_64")
_HEAD_NORM_EPS = 0.001
"""Epsilon of the heads' batch norms; the graph stores all others as scale and shift."""
_BACKBONE = "FeatureExtractor/MobilenetV2"


class SSDOutput(NamedTuple):
    """Output of the network for B photos."""

    encodings_BA4: Tensor
    """Box deltas against the anchors: centre y, centre x, height, width (`boxes.decode_boxes`)."""
    logits_BAC: Tensor
    """Class logits (sigmoid), C = 91."""
    stride8_BCHW: Tensor
    """(B, 192, 38, 38), values in [0, 6]."""
    stride16_BCHW: Tensor
    """(B, 576, 19, 19), values in [0, 6]."""


class SSDLite(nn.Module):
    """The network; `tensors` come from scripts/convert_ssdlite.py, with the graph's names and memory format."""

    anchors_A4: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        read = _LayerBuilder(tensors)
        self.register_buffer("anchors_A4", tensors["anchors"].float())
        self.stem = read.conv(f"{_BACKBONE}/Conv", SIDE, stride=2)
        side, blocks = self.stem.side, []
        for i, stride in enumerate(_STRIDES):
            name = f"{_BACKBONE}/expanded_conv" + (f"_{i}" if i else "")
            expand = read.conv(f"{name}/expand", side) if i else None
            depthwise = read.depthwise(f"{name}/depthwise", side, stride)
            project = read.conv(f"{name}/project", depthwise.side, linear=True)
            blocks.append(InvertedResidual(expand, depthwise, project))
            side = project.side
        self.blocks = nn.ModuleList(blocks)
        self.last = read.conv(f"{_BACKBONE}/Conv_1", side)

        sides, extras = [blocks[12].side, side], []  # the maps inside block 13 and after the last layer
        for squeeze, extra in zip(_EXTRA_SQUEEZE, _EXTRA, strict=True):
            shrink = read.depthwise(f"{_BACKBONE}/layer_19_2_Conv2d_{extra}_depthwise", side, stride=2)
            layers = (
                read.conv(f"{_BACKBONE}/layer_19_1_Conv2d_{squeeze}", side),
                shrink,
                read.conv(f"{_BACKBONE}/layer_19_2_Conv2d_{extra}", shrink.side),
            )
            extras.append(nn.Sequential(*layers))
            side = shrink.side
            sides.append(side)
        self.extras = nn.ModuleList(extras)
        heads = [f"BoxPredictor_{i}" for i in range(len(sides))]
        self.box_heads = nn.ModuleList(
            read.head(f"{h}/BoxEncodingPredictor", s) for h, s in zip(heads, sides, strict=True)
        )
        self.class_heads = nn.ModuleList(read.head(f"{h}/ClassPredictor", s) for h, s in zip(heads, sides, strict=True))

    def forward(self, photos_B3HW: Tensor) -> SSDOutput:
        """Runs the network on (B, 3, 300, 300), RGB in [-1, 1] (`preprocess`)."""
        B = photos_B3HW.shape[0]
        x = self.stem(photos_B3HW)
        expanded: dict[int, Tensor] = {}
        for i, block in enumerate(self.blocks):
            assert isinstance(block, InvertedResidual)
            x, expanded[i] = block.tapped(x)
            if i not in (6, 13):
                del expanded[i]
        maps = [expanded[13], self.last(x)]  # 19 x 19, 10 x 10
        for extra in self.extras:
            maps.append(extra(maps[-1]))  # 5, 3, 2, 1
        # Anchors are ordered by row, column and the 3 or 6 shapes of a cell: NHWC order.
        encodings = [h(m).permute(0, 2, 3, 1).reshape(B, -1, 4) for h, m in zip(self.box_heads, maps, strict=True)]
        logits = [h(m).permute(0, 2, 3, 1).reshape(B, -1, CLASSES) for h, m in zip(self.class_heads, maps, strict=True)]
        return SSDOutput(torch.cat(encodings, 1), torch.cat(logits, 1), expanded[6], expanded[13])


class _LayerBuilder:
    """Builds layers from the graph's tensors: HWIO becomes OIHW, batch norms become scale and bias."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def conv(self, name: str, side: int, stride: int = 1, linear: bool = False) -> SameConv:
        """Returns a convolution; the graph has multiplied its batch-norm scale into the weight."""
        weight = self.tensors[f"{name}/Conv2D/merged_input"].permute(3, 2, 0, 1)
        return SameConv(side, weight, self.tensors[f"{name}/BatchNorm/batchnorm/sub"], None, stride, linear)

    def depthwise(self, name: str, side: int, stride: int) -> SameConv:
        """Returns a depthwise convolution with scale and shift."""
        weight = self.tensors[f"{name}/depthwise_weights"].permute(2, 3, 0, 1)
        norm = f"{name}/BatchNorm/batchnorm"
        return SameConv(side, weight, self.tensors[f"{norm}/sub"], self.tensors[f"{norm}/mul"], stride)

    def head(self, name: str, side: int) -> nn.Sequential:
        """Returns a predictor: a depthwise convolution with a batch norm, then a 1x1 convolution with bias."""
        norm = f"{name}_depthwise/BatchNorm"
        scale = self.tensors[f"{norm}/gamma"] / torch.sqrt(self.tensors[f"{norm}/moving_variance"] + _HEAD_NORM_EPS)
        shift = self.tensors[f"{norm}/beta"] - self.tensors[f"{norm}/moving_mean"] * scale
        depthwise = self.tensors[f"{name}_depthwise/depthwise_weights"].permute(2, 3, 0, 1)
        weight = self.tensors[f"{name}/weights"].permute(3, 2, 0, 1)
        return nn.Sequential(
            SameConv(side, depthwise, shift, scale),
            SameConv(side, weight, self.tensors[f"{name}/biases"], linear=True),
        )


def preprocess(photo: np.ndarray) -> Tensor:
    """Resizes RGB uint8 (H, W, 3) to float32 (300, 300, 3) in [-1, 1] like the graph (legacy bilinear)."""
    top_Y, bottom_Y, down_Y = _legacy_samples(photo.shape[0])
    left_X, right_X, along_X = _legacy_samples(photo.shape[1])
    left, right, along_X1 = torch.from_numpy(left_X), torch.from_numpy(right_X), torch.from_numpy(along_X)[:, None]
    upper, lower = (
        torch.lerp(rows.index_select(1, left).float(), rows.index_select(1, right).float(), along_X1)
        for rows in (torch.from_numpy(photo[top_Y]), torch.from_numpy(photo[bottom_Y]))
    )
    return torch.lerp(upper, lower, torch.from_numpy(down_Y)[:, None, None]).mul_(2 / 255).sub_(1)


def _legacy_samples(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns low index, high index and weight of the high one for each of 300 samples over `side` pixels."""
    at = np.arange(SIDE) * (side / SIDE)
    low = np.floor(at).astype(np.int64)
    return low, np.minimum(low + 1, side - 1), (at - low).astype(np.float32)
