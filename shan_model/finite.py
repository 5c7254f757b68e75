"""Numbers that are not finite: refuses such weights, and marks items that contain them.

The native implementation (`native.py`) is compiled for finite numbers and may give finite scores for others.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


class NotFiniteError(ValueError):
    """Weights contain NaN or infinity."""


def require_finite_weights(tensors: Mapping[str, Tensor]) -> None:
    """Raises NotFiniteError naming the first tensor with a number that is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            count = int((~torch.isfinite(tensor)).sum())
            raise NotFiniteError(
                f"{count} of {tensor.numel()} numbers of the weights '{name}' are NaN or infinite: the training "
                "diverged"
            )


def nan_unless_finite(tensors: Iterable[Tensor]) -> Tensor:
    """Returns, for K items of which each tensor K x ... holds a part, 0 where all numbers are finite, otherwise NaN."""
    parts = [x.detach().flatten(1) for x in tensors if x.numel()]
    return 0 * torch.stack([torch.linalg.vector_norm(x, ord=torch.inf, dim=1) for x in parts]).amax(dim=0)
