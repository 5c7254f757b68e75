"""Cross-attention (Eq. 4 and 5) and the cosines of Eq. 6, without forming any attended vector.

For a query vector n, key vectors m and weights = softmax_m(logits),

    query_n . attended_n = sum_m weights_nm dots_nm,        |attended_n|^2 = weights_n Gram weights_n,

where `dots` are the dot products of queries with keys and Gram holds the dot products of the keys with each other. The
cost per pair therefore does not depend on the joint width D.

Shapes: K query items of N vectors, L key items of M vectors; `pairs` stands for the leading axes of the pairs.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from shan_model import native
from shan_model.padding import Subscripts, over_pairs


class Attended(NamedTuple):
    """Result of the attention of all pairs."""

    weights: Tensor
    """pairs x N x M: attention weights alpha (Eq. 4) or beta (Eq. 5)."""
    cosines: Tensor
    """pairs x N: cosines of the query vectors with their attended vectors."""
    sums: Tensor
    """pairs x N: sums of the keys' values under the attention weights."""


def attend(
    norms_KN: Tensor, gram_LMM: Tensor, values_LM: Tensor, logits: Tensor, dots: Tensor, subscripts: Subscripts
) -> Attended:
    """Computes the attention of all pairs.

    `norms_KN` are the norms of the query vectors; `gram_LMM` and `values_LM` belong to the key items (one scalar value
    per vector). `logits` and `dots` are pairs x N x M and share one memory format. The cosine with a zero vector is 0.
    Runs the native implementation where it is usable.
    """
    query, key, pair = subscripts
    if native.usable(logits):
        query_axis = pair.index(query) if len(pair) == 2 else None
        return Attended(*native.attend(norms_KN, gram_LMM, values_LM, logits, dots, query_axis=query_axis))
    weights = logits.softmax(dim=-1)
    squares = (torch.einsum(f"{pair}nm,{key}mk->{pair}nk", weights, gram_LMM) * weights).sum(dim=-1)
    lengths = squares.clamp(min=1e-16).sqrt() * over_pairs(norms_KN, subscripts)
    cosines = (weights * dots).sum(dim=-1) / lengths.clamp(min=1e-8)
    return Attended(weights, cosines, torch.einsum(f"{pair}nm,{key}m->{pair}n", weights, values_LM))
