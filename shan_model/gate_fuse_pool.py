"""Gate, fuse and pool (Eq. 8 and 9) for many pairs: all that touches D channels of every vector of every pair.

The gate is linear before its sigmoid, so its products are made per item and only mixed per pair. With
fused = attended + h, where h = gate * (own - attended), the context of Eq. 9 is

    sum_n gamma_n fused_n = sum_n gamma_n h_n + sum_nm gamma_n weights_nm other_m,

and the function here returns its first part ("gated") and gamma; the second part has no D per vector and pair.
In gradient mode h is made again in the backward pass rather than kept: it is N x D floats a pair.
"""

from itertools import repeat

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shan_model import native

ROWS = {"cpu": 192, "cuda": 1 << 15}
"""Vectors of D floats that are worked on at once: on a CPU they stay in a core's cache, a GPU wants to be filled."""


def layout(x_KND: Tensor) -> Tensor:
    """The arrangement in which channels will be worked on: `native.panels` where the compiled form is usable."""
    return native.panels(x_KND) if native.usable(x_KND) else x_KND


def gate_fuse_pool(
    own: Tensor,
    own_gate: Tensor,
    other: Tensor,
    other_gate: Tensor,
    weights: Tensor,
    logits: Tensor,
    pool_D: Tensor,
    *,
    own_axis: int | None,
) -> tuple[Tensor, Tensor]:
    """Gated sums (pairs x D) and gamma (pairs x N) of K own items of N vectors with L other items of M vectors.

    `own` and `own_gate` (W_g1 own + b_g) are K x N x D, `other` and `other_gate` (W_g2 other) L x M x D, all four in
    `layout`. `weights` (pairs x N x M) are the attention of Eq. 4 or 5; `logits` (pairs x N) the pooling logits of the
    attended vectors, to which those of h are added. Pairs are K x L or L x K, as `own_axis` (0 or 1) says where the
    own items stand; if it is None, own item k is paired with other item k alone.
    """
    arrays = own, own_gate, other, other_gate
    if own.dim() == 4:
        return native.gate_fuse_pool(*arrays, weights, logits, pool_D, own_axis=own_axis)
    if own_axis is None:
        return _in_chunks(*arrays, weights, logits, pool_D)
    axis = 1 - own_axis
    by_other = [
        _in_chunks(own, own_gate, *one, pool_D)
        for one in zip(other, other_gate, weights.unbind(axis), logits.unbind(axis), strict=True)
    ]
    gated, gamma = zip(*by_other, strict=True)
    return torch.stack(gated, dim=axis), torch.stack(gamma, dim=axis)


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
    own_parts = zip(*(x.split(size) for x in (own_KND, own_gate_KND, weights_KNM, logits_KN)), strict=True)
    shared = other.dim() == 2
    other_parts = repeat((other, other_gate)) if shared else zip(other.split(size), other_gate.split(size), strict=True)
    done = [
        _recomputed(own, own_gate, *other_part, weights, logits, pool_D)
        for (own, own_gate, weights, logits), other_part in zip(own_parts, other_parts, strict=False)
    ]
    gated, gamma = zip(*done, strict=True)
    return torch.cat(gated), torch.cat(gamma)


def _recomputed(*arguments: Tensor) -> tuple[Tensor, Tensor]:
    """`_fuse`, of which nothing is kept for the backward pass but its arguments."""
    if not torch.is_grad_enabled():
        return _fuse(*arguments)
    result: tuple[Tensor, Tensor] = checkpoint(_fuse, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result


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
