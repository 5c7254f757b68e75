"""Gate, fuse and pool (Eq. 8 and 9) for many pairs: all that touches D channels of every vector of every pair.

The gate is linear before its sigmoid, so its products are made per item and only mixed per pair. With
fused = attended + h, where h = gate * (own - attended), the context of Eq. 9 is

    sum_n gamma_n fused_n = sum_n gamma_n h_n + sum_nm gamma_n weights_nm other_m,

and the function here returns its first part ("gated") and gamma; the second part has no D per vector and pair.
In gradient mode h is made again in the backward pass rather than kept: it is N x D floats a pair.
"""

from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shan_model import native

ROWS = {"cpu": 192, "cuda": 1 << 15}
"""Vectors of D floats that are worked on at once: on a CPU they stay in a core's cache, a GPU wants to be filled."""


class Channels(NamedTuple):
    """What the vector gate needs of one side, K x N x D each (or `native.panels` of that)."""

    own: Tensor
    """The vectors, v_i or t_j."""
    own_gate: Tensor | None
    """W_g1 own + b_g of this side's gate."""
    answer_gate: Tensor | None
    """W_g2 own of the other side's gate, which mixes these vectors."""


def layout(x_KND: Tensor) -> Tensor:
    """The arrangement in which channels will be worked on: `native.panels` where the compiled form is usable."""
    return native.panels(x_KND) if native.usable(x_KND) else x_KND


def gate_fuse_pool(
    own: Channels, other: Channels, weights: Tensor, logits: Tensor, pool_D: Tensor, own_axis: int | None
) -> tuple[Tensor, Tensor]:
    """Gated sums (pairs x D) and gamma (pairs x N).

    `weights` (pairs x N x M) are the attention of Eq. 4 or 5; `logits` (pairs x N) the pooling logits of the attended
    vectors, to which those of h are added. Pairs are K x L or L x K, as `own_axis` (0 or 1) says where the K own
    items stand; if it is None, own item k is paired with other item k alone.
    """
    assert own.own_gate is not None
    assert other.answer_gate is not None
    arrays = own.own, own.own_gate, other.own, other.answer_gate
    if own.own.dim() == 4:
        return native.gate_fuse_pool(*arrays, weights, logits, pool_D, own_axis=own_axis)
    if own_axis is None:
        return _in_chunks(*arrays, weights, logits, pool_D)
    by_other = [
        _in_chunks(own.own, own.own_gate, *one, pool_D)
        for one in zip(other.own, other.answer_gate, weights.unbind(1 - own_axis), logits.unbind(1 - own_axis), strict=True)
    ]
    gated, gamma = zip(*by_other, strict=True)
    return torch.stack(gated, dim=1 - own_axis), torch.stack(gamma, dim=1 - own_axis)


def _in_chunks(
    own_KND: Tensor,
    own_gate_KND: Tensor,
    other: Tensor,
    other_gate: Tensor,
    weights_KNM: Tensor,
    logits_KN: Tensor,
    pool_D: Tensor,
) -> tuple[Tensor, Tensor]:
    """`_fuse` for a few own items at a time; `other` is M x D for all of them or K x M x D."""
    size = max(1, ROWS[own_KND.device.type] // own_KND.shape[1])
    shared = other.dim() == 2
    parts = zip(
        own_KND.split(size),
        own_gate_KND.split(size),
        repeat(other) if shared else other.split(size),
        repeat(other_gate) if shared else other_gate.split(size),
        weights_KNM.split(size),
        logits_KN.split(size),
        strict=False,  # repeat has no end
    )
    if torch.is_grad_enabled():
        done = [checkpoint(_fuse, *part, pool_D, use_reentrant=False, preserve_rng_state=False) for part in parts]
    else:
        done = [_fuse(*part, pool_D) for part in parts]
    gated, gamma = zip(*done, strict=True)
    return torch.cat(gated), torch.cat(gamma)


def _fuse(
    own_KND: Tensor,
    own_gate_KND: Tensor,
    other: Tensor,
    other_gate: Tensor,
    weights_KNM: Tensor,
    logits_KN: Tensor,
    pool_D: Tensor,
) -> tuple[Tensor, Tensor]:
    gate_KND = torch.matmul(weights_KNM, other_gate).add_(own_gate_KND).sigmoid_()
    h_KND = own_KND - torch.matmul(weights_KNM, other)
    h_KND = h_KND * gate_KND if torch.is_grad_enabled() else h_KND.mul_(gate_KND)
    gamma_KN = (logits_KN + h_KND @ pool_D).softmax(dim=-1)
    return (gamma_KN[:, None] @ h_KND)[:, 0], gamma_KN
