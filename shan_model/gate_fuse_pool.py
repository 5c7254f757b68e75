"""Gate, fuse and pool (Eq. 8 and 9) for many pairs: the only step that touches D channels of each vector of a pair.

The gate is linear before its sigmoid, so its matrix products are computed per item and only mixed per pair. With
fused = attended + h, where h = gate * (query - attended), the context of Eq. 9 is

    sum_n gamma_n fused_n = sum_n gamma_n h_n + sum_nm gamma_n weights_nm key_m.

`gate_fuse_pool` returns the first sum ("gated") and gamma; the second sum needs no tensor of width D per vector. When
gradients are enabled, h is recomputed in the backward pass rather than stored, because it has N x D floats per pair.

Shapes: K query items of N vectors, L key items of M vectors, D joint width; `pairs` stands for the leading axes of the
pairs.
"""

import functools
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_FLOATS = {"cpu": 192 << 10, "cuda": 32 << 20}
"""Floats of h that are computed at once: on a CPU they fit a core's cache, on a GPU they fill the device."""


def gate_fuse_pool(
    query: Tensor,
    query_gate: Tensor,
    key: Tensor,
    key_gate: Tensor,
    weights: Tensor,
    logits: Tensor,
    pool_D: Tensor,
    *,
    query_axis: int | None,
) -> tuple[Tensor, Tensor]:
    """Returns the gated sums (pairs x D) and gamma (pairs x N).

    `query` and `query_gate` (W_g1 query + b_g) are K x N x D, `key` and `key_gate` (W_g2 key) L x M x D. `weights`
    (pairs x N x M) are the attention weights of Eq. 4 or 5. `logits` (pairs x N) are the pooling logits of the attended
    vectors, to which those of h are added. `query_axis` (0 or 1) is the axis of the query items among the pairs, which
    are K x L or L x K; None means a list, in which query item k is paired with key item k.
    """
    arrays = query, query_gate, key, key_gate
    chunk = max(1, CHUNK_FLOATS[query.device.type] // query[0].numel())
    if query_axis is None:
        parts = zip(*(x.split(chunk) for x in (*arrays, weights, logits)), strict=True)
        return _concatenated([_recomputed(*part, pool_D) for part in parts], dim=0)
    if query_axis == 1:
        weights, logits = weights.transpose(0, 1), logits.transpose(0, 1)
    height = min(len(query), chunk)
    width = chunk // height
    keys = list(zip(key.split(width), key_gate.split(width), strict=True))
    rows = [
        _concatenated(
            [
                _recomputed(query[:, None], query_gate[:, None], *key, weights, logits, pool_D)
                for key, weights, logits in zip(keys, weights.split(width, 1), logits.split(width, 1), strict=True)
            ],
            dim=1,
        )
        for query, query_gate, weights, logits in zip(
            *(x.split(height) for x in (query, query_gate, weights, logits)), strict=True
        )
    ]
    gated, gamma = _concatenated(rows, dim=0)
    return (gated, gamma) if query_axis == 0 else (gated.transpose(0, 1), gamma.transpose(0, 1))


def _concatenated(parts: Sequence[tuple[Tensor, Tensor]], dim: int) -> tuple[Tensor, Tensor]:
    gated, gamma = zip(*parts, strict=True)
    return torch.cat(gated, dim), torch.cat(gamma, dim)


def _recomputed(*arguments: Tensor) -> tuple[Tensor, Tensor]:
    """Calls `_fuse` so that only its arguments are kept for the backward pass."""
    fuse = compiled("cuda") if arguments[0].is_cuda else _fuse
    if not torch.is_grad_enabled():
        return fuse(*arguments)
    result: tuple[Tensor, Tensor] = checkpoint(fuse, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result


@functools.cache
def compiled(device: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """Returns `_fuse` compiled by torch, forward and backward; if that fails, warns and returns `_fuse` itself.

    Used on GPUs only: on a CPU the compiled function is as slow as the eager one (docs/results.md).
    """
    function = torch.compile(_fuse, dynamic=True)
    try:
        with torch.inference_mode(False), torch.enable_grad():  # independent of the first caller's mode
            x = torch.ones(2, 3, 4, device=device, requires_grad=True)
            arguments = x, x, x, x, x[..., :3], x[..., 0], x[0, 0]
            gated, gamma = function(*arguments)
            (gated.sum() + gamma.sum()).backward()
            with torch.no_grad():
                function(*arguments)
    except Exception as error:  # noqa: BLE001 - a missing compiler or driver raises many types
        warnings.warn(f"torch.compile failed ({type(error).__name__}); gates run unfused, slower", stacklevel=2)
        return _fuse
    return function


def _fuse(
    query: Tensor, query_gate: Tensor, key: Tensor, key_gate: Tensor, weights: Tensor, logits: Tensor, pool_D: Tensor
) -> tuple[Tensor, Tensor]:
    """Computes the module's equations for pairs whose query (... x N x D) and key items (... x M x D) broadcast."""
    gate = torch.matmul(weights, key_gate).add_(query_gate).sigmoid_()
    h = query - torch.matmul(weights, key)
    h = h * gate if torch.is_grad_enabled() else h.mul_(gate)
    gamma = (logits + h @ pool_D).softmax(dim=-1)
    return (gamma[..., None, :] @ h)[..., 0, :], gamma
