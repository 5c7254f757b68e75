"""Numbers that are not finite: refuses such weights, and finds items that contain or may give them.

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


def largest_magnitude(tensors: Iterable[Tensor]) -> Tensor:
    """Returns the largest magnitude in each of K items, of which each tensor K x ... holds a part.

    It is NaN or infinite for an item with a number that is not finite.
    """
    parts = [x.detach().flatten(1) for x in tensors if x.numel()]
    # On a CPU, the norm of order infinity takes 28 times as long.
    return torch.stack([torch.maximum(x.amax(dim=1), -x.amin(dim=1)) for x in parts]).amax(dim=0)
