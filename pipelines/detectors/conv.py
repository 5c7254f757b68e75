"""One convolution with TensorFlow's SAME padding, its batch norm folded in, and ReLU6: both networks are made of it.

Folding and the padding below change nothing but float noise, and halve the time on a CPU against a literal port.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after a side under SAME padding; the odd one goes after (stride 2 on an even side)."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class SameConv(nn.Module):
    """SAME convolution on a square map of a fixed side, plus bias, then ReLU6 unless `linear`.

    weight_OIKK: depthwise where I is 1 and O is not. scale_O is multiplied into the weight (a folded batch norm).
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
            # Unequal padding would copy the whole map. A zero row and column in front of the kernel, with equal
            # padding, is the same sum: it moves every tap by one, and the zero taps meet the extra padding.
            weight = F.pad(weight, (1, 0, 1, 0))
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = nn.Parameter(bias_O.float().clone(), requires_grad=False)
        self.padding, self.stride, self.linear = after, stride, linear
        self.groups = weight.shape[0] if weight.shape[1] == 1 else 1
        self.side = -(-side // stride)
        """Side of the output map."""

    def forward(self, maps_BIHW: Tensor) -> Tensor:
        """(B, I, side_in, side_in) -> (B, O, side, side)."""
        y = F.conv2d(maps_BIHW, self.weight, self.bias, self.stride, self.padding, 1, self.groups)
        return y if self.linear else y.clamp_(0.0, 6.0)


class InvertedResidual(nn.Module):
    """MobileNetV2's block (also EfficientNet-Lite's): expand 1x1, depthwise, project 1x1 without activation."""

    def __init__(self, expand: SameConv | None, depthwise: SameConv, project: SameConv) -> None:
        super().__init__()
        self.expand, self.depthwise, self.project = expand, depthwise, project
        first = expand if expand is not None else depthwise
        in_channels = first.weight.shape[1] * first.groups
        self.skip = depthwise.stride == 1 and in_channels == project.weight.shape[0]
        self.side = project.side

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return self.tapped(x_BCHW)[0]

    def tapped(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's output and its expanded map, which SSDLite also reads."""
        expanded = x_BCHW if self.expand is None else self.expand(x_BCHW)
        y = self.project(self.depthwise(expanded))
        return (y.add_(x_BCHW) if self.skip else y), expanded
