"""ResNet-101: the backbone up to res4 (stride 16), and the bottleneck block, which res5 uses too.

Notable features:

- The stride is in the first 1x1 convolution of a block.
- Batch norms are frozen and folded into their convolutions, which affects the result by rounding error only.
- The max pooling of the stem has no padding and rounds its output size up (Caffe).

Shapes: B photos, I, O and C channels, K kernel side, H x W pixels or cells.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_NORM_EPS = 1e-5
_LAYERS = (("res2", 3, 1), ("res3", 4, 2), ("res4", 23, 2))
"""Name, number of blocks and stride of the first block of each layer."""


class FrozenConv(nn.Module):
    """Convolution with its frozen batch norm folded in, from the tensors `<name>.weight` and `<name>.norm.*`."""

    weight_OIKK: Tensor
    bias_O: Tensor

    def __init__(
        self, tensors: Mapping[str, Tensor], name: str, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> None:
        super().__init__()
        scale_O = tensors[f"{name}.norm.weight"] / torch.sqrt(tensors[f"{name}.norm.running_var"] + _NORM_EPS)
        self.register_buffer("weight_OIKK", tensors[f"{name}.weight"] * scale_O[:, None, None, None])
        shift_O = tensors[f"{name}.norm.bias"] - tensors[f"{name}.norm.running_mean"] * scale_O
        self.register_buffer("bias_O", shift_O)
        self.stride, self.padding, self.dilation = stride, padding, dilation

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns (B, O, H, W) without activation."""
        return F.conv2d(x_BCHW, self.weight_OIKK, self.bias_O, self.stride, self.padding, self.dilation)


class Bottleneck(nn.Module):
    """Residual block of 1x1 (with the stride), 3x3 (with the dilation) and 1x1; a layer's first projects its input."""

    def __init__(self, tensors: Mapping[str, Tensor], name: str, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = FrozenConv(tensors, f"{name}.conv1", stride)
        self.conv2 = FrozenConv(tensors, f"{name}.conv2", padding=dilation, dilation=dilation)
        self.conv3 = FrozenConv(tensors, f"{name}.conv3")
        projects = f"{name}.shortcut.weight" in tensors
        self.shortcut = FrozenConv(tensors, f"{name}.shortcut", stride) if projects else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns (B, 4 x width, H / stride, W / stride), values >= 0."""
        inner = F.relu_(self.conv2(F.relu_(self.conv1(x_BCHW))))
        return F.relu_(self.conv3(inner).add_(self.shortcut(x_BCHW)))


def make_layer(
    tensors: Mapping[str, Tensor], name: str, blocks: int, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Returns the blocks `<name>.0` to `<name>.<blocks - 1>`, with the stride in the first and the dilation in all."""
    return nn.Sequential(
        *(Bottleneck(tensors, f"{name}.{i}", stride if i == 0 else 1, dilation) for i in range(blocks))
    )


class Backbone(nn.Module):
    """Backbone: stem, res2, res3 and res4."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stem = FrozenConv(tensors, "backbone.stem.conv1", stride=2, padding=3)
        self.layers = nn.Sequential(
            *(make_layer(tensors, f"backbone.{name}", blocks, stride) for name, blocks, stride in _LAYERS)
        )

    def forward(self, photos_B3HW: Tensor) -> Tensor:
        """Maps preprocessed photos (`preprocess.py`), H and W at least 3, to (B, 1024, about H / 16, about W / 16)."""
        x = F.max_pool2d(F.relu_(self.stem(photos_B3HW)), kernel_size=3, stride=2, ceil_mode=True)
        return self.layers(x)
