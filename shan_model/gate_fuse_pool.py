"""Gate, fuse and pool (Eq. 8 and 9) for many pairs: all that touches D channels of every vector of every pair.

The gate is linear before its sigmoid, so its products are made per item and only mixed per pair. With
fused = attended + h, where h = gate * (own - attended), the context of Eq. 9 is

    sum_n gamma_n fused_n = sum_n gamma_n h_n + sum_nm gamma_n weights_nm other_m,

and the function here returns its first part ("gated") and gamma; the second part has no D per vector and pair.
In gradient mode h is made again in the backward pass rather than kept: it is N x D floats a pair.
"""

import functools
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

FLOATS = {"cpu": 192 << 10, "cuda": 32 << 20}
"""Size of h that is worked on at once: on a CPU it stays in a core's cache, a GPU wants to be filled."""


def gate_fuse_pool(
    own: Tensor,
    own_gate: Tensor,
    other: Tensor,
    other_gate: Tensor,
    weights: Tensor,
    logits: Tensor,
    pool_D: Tensor,
    *,
    query_axis: int | None,
) -> tuple[Tensor, Tensor]:
    """Gated sums (pairs x D) and gamma (pairs x N) of K own items of N vectors with L other items of M vectors.

    `own` and `own_gate` (W_g1 own + b_g) are K x N x D, `other` and `other_gate` (W_g2 other) L x M x D. `weights`
    (pairs x N x M) are the attention of Eq. 4 or 5; `logits` (pairs x N) the pooling logits of the attended vectors, to
    which those of h are added. Pairs are K x L or L x K, as `query_axis` (0 or 1) says where own items stand; if it is
    None, own item k is paired with other item k alone.
    """
    arrays = own, own_gate, other, other_gate
    at_once = max(1, FLOATS[own.device.type] // own[0].numel())
    if query_axis is None:
        parts = zip(*(x.split(at_once) for x in (*arrays, weights, logits)), strict=True)
        return _joined([_recomputed(*part, pool_D) for part in parts], dim=0)
    if query_axis == 1:
        weights, logits = weights.transpose(0, 1), logits.transpose(0, 1)
    tall = min(len(own), at_once)
    wide = at_once // tall
    others = list(zip(other.split(wide), other_gate.split(wide), strict=True))
    strips = [
        _joined(
            [
                _recomputed(own[:, None], own_gate[:, None], *other, weights, logits, pool_D)
                for other, weights, logits in zip(others, weights.split(wide, 1), logits.split(wide, 1), strict=True)
            ],
            dim=1,
        )
        for own, own_gate, weights, logits in zip(
            *(x.split(tall) for x in (own, own_gate, weights, logits)), strict=True
        )
    ]
    gated, gamma = _joined(strips, dim=0)
    return (gated, gamma) if query_axis == 0 else (gated.transpose(0, 1), gamma.transpose(0, 1))


def _joined(parts: Sequence[tuple[Tensor, Tensor]], dim: int) -> tuple[Tensor, Tensor]:
    gated, gamma = zip(*parts, strict=True)
    return torch.cat(gated, dim), torch.cat(gamma, dim)


def _recomputed(*arguments: Tensor) -> tuple[Tensor, Tensor]:
    """`_fuse`, of which nothing is kept for the backward pass but its arguments."""
    fuse = compiled("cuda") if arguments[0].is_cuda else _fuse
    if not torch.is_grad_enabled():
        return fuse(*arguments)
    result: tuple[Tensor, Tensor] = checkpoint(fuse, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result


@functools.cache
def compiled(device: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """`_fuse` compiled by torch, forward and backward; `_fuse` itself, with a warning, where that fails.

    Used on GPUs only: on a CPU the compiled function is no faster than the eager one (docs/results.md).
    """
    function = torch.compile(_fuse, dynamic=True)
    try:
        with torch.inference_mode(False), torch.enable_grad():  # whatever mode the first caller is in
            some = torch.ones(2, 3, 4, device=device, requires_grad=True)
            given = some, some, some, some, some[..., :3], some[..., 0], some[0, 0]
            gated, gamma = function(*given)
            (gated.sum() + gamma.sum()).backward()
            with torch.no_grad():
                function(*given)
    except Exception as error:  # noqa: BLE001 - a missing compiler or driver shows itself in many types
        warnings.warn(f"torch.compile failed ({type(error).__name__}); gates run unfused, slower", stacklevel=2)
        return _fuse
    return function


def _fuse(
    own: Tensor, own_gate: Tensor, other: Tensor, other_gate: Tensor, weights: Tensor, logits: Tensor, pool_D: Tensor
) -> tuple[Tensor, Tensor]:
    """The equations of this file for pairs whose own (... x N x D) and other items (... x M x D) broadcast."""
    gate = torch.matmul(weights, other_gate).add_(own_gate).sigmoid_()
    h = own - torch.matmul(weights, other)
    h = h * gate if torch.is_grad_enabled() else h.mul_(gate)
    gamma = (logits + h @ pool_D).softmax(dim=-1)
    return (gamma[..., None, :] @ h)[..., 0, :], gamma
