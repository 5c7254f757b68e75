"""Building blocks of both networks of the `embedded` detector: a convolution and the inverted residual block.

The convolution has TensorFlow's SAME padding, a folded batch norm and ReLU6. Folding and the padding scheme below
affect the result by rounding error only, and halve the time on a CPU compared with a literal port.

Shapes: B photos, I and O input and output channels, K kernel side, H x W cells of a map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the zeros before and after a side under SAME padding; an odd zero goes after (even side, stride 2)."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class SameConv(nn.Module):
    """SAME convolution on a square map of fixed side, followed by bias and, unless `linear`, ReLU6.

    `weight_OIKK` is depthwise if I is 1 and O is not. `scale_O`, a folded batch norm, is multiplied into the weight.
    """

    def __init__(
        self,
        side: int,
        weight_OIKK: Tensor,
        bias_O: Tensor,
        scale_O: Tensor | None = None,
        stride: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        weight = weight_OIKK.float()
        if scale_O is not None:
            weight = weight * scale_O.float()[:, None, None, None]
        before, after = same_padding(side, weight.shape[-1], stride)
        if after > before:
            # Unequal padding would copy the map. A zero row and column in front of the kernel, with equal padding,
            # gives the same sum: it shifts the kernel by one, and the zeros meet the additional padding.
            weight = F.pad(weight, (1, 0, 1, 0))
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = nn.Parameter(bias_O.float().clone(), requires_grad=False)
        self.padding, self.stride, self.linear = after, stride, linear
        self.groups = weight.shape[0] if weight.shape[1] == 1 else 1
        self.side = -(-side // stride)
        """Side of the output map in cells."""

    def forward(self, maps_BIHW: Tensor) -> Tensor:
        """Maps (B, I, side_in, side_in) to (B, O, side, side)."""
        y = F.conv2d(maps_BIHW, self.weight, self.bias, self.stride, self.padding, 1, self.groups)
        return y if self.linear else y.clamp_(0.0, 6.0)


class InvertedResidual(nn.Module):
    """Block of MobileNetV2 and EfficientNet-Lite: 1x1 expansion, depthwise, 1x1 projection without activation."""

    def __init__(self, expand: SameConv | None, depthwise: SameConv, project: SameConv) -> None:
        super().__init__()
        self.expand, self.depthwise, self.project = expand, depthwise, project
        first = expand if expand is not None else depthwise
        in_channels = first.weight.shape[1] * first.groups
        self.skip = depthwise.stride == 1 and in_channels == project.weight.shape[0]
        self.side = project.side

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C', H', W')."""
        return self.tapped(x_BCHW)[0]

    def tapped(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the output of the block and its expanded map, which SSDLite uses too."""
        expanded = x_BCHW if self.expand is None else self.expand(x_BCHW)
        y = self.project(self.depthwise(expanded))
        return (y.add_(x_BCHW) if self.skip else y), expanded
