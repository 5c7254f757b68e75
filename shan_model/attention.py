"""Attention of one side's vectors over the other's (Eq. 4 and 5), with its cosines, and no attended vector made.

For own vector n, other vectors m and weights = softmax_m(logits): own_n . attended_n = sum_m weights_nm dots_nm, and
|attended_n|^2 = weights_n Gram weights_n, where Gram holds the other side's dot products among themselves.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from shan_model import native

Letters = tuple[str, str, str]
"""Of an einsum: the leading axes of own items, of other items, and of their pairs."""


class Attended(NamedTuple):
    """What attention gives without a vector of width D."""

    weights: Tensor
    """pairs x N x M: alpha or beta."""
    cosines: Tensor
    """pairs x N: of own vectors with what they attended."""
    sums: Tensor
    """pairs x N: of other items' values, weighted alike."""


def attend(
    norms_KN: Tensor, gram_LMM: Tensor, values_LM: Tensor, logits: Tensor, dots: Tensor, letters: Letters
) -> Attended:
    """Attention for all pairs: `norms_KN` of own items; `gram_LMM` and `values_LM` of other items (one value a vector).

    `logits` and `dots` are pairs x N x M, laid out alike. Cosines with a vector of zeros are 0.
    """
    o, x, p = letters
    if native.usable(logits):
        query_axis = p.index(o) if len(p) == 2 else None
        return Attended(*native.attend(norms_KN, gram_LMM, values_LM, logits, dots, query_axis=query_axis))
    weights = logits.softmax(dim=-1)
    squares = (torch.einsum(f"{p}nm,{x}mk->{p}nk", weights, gram_LMM) * weights).sum(dim=-1)
    lengths = squares.clamp(min=1e-16).sqrt() * over_pairs(norms_KN, letters)
    cosines = (weights * dots).sum(dim=-1) / lengths.clamp(min=1e-8)
    return Attended(weights, cosines, torch.einsum(f"{p}nm,{x}m->{p}n", weights, values_LM))


def over_pairs(own: Tensor, letters: Letters) -> Tensor:
    """Something of every own item, ready to broadcast over the pairs."""
    o, _, p = letters
    return own if len(p) == 1 else own.unsqueeze(1 - p.index(o))
