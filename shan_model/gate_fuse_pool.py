"""Gate, fuse and pool (Eq. 8 and 9) for many pairs: the only step that touches D channels of each vector of a pair.

The gate is linear before its sigmoid, so its matrix products are computed per item and only mixed per pair. With
fused = attended + h, where h = gate * (query - attended), the context of Eq. 9 is

    sum_n gamma_n fused_n = sum_n gamma_n h_n + sum_nm gamma_n weights_nm key_m.

`gate_fuse_pool` returns the first sum ("gated") and gamma; the second sum needs no tensor of width D per vector. When
gradients are enabled, h is recomputed in the backward pass rather than stored, because it has N x D floats per pair.
On a GPU, `compiled_gate.py` computes h and the sums.

Shapes: K query items of N vectors, L key items of M vectors, D joint width; `pairs` stands for the leading axes of the
pairs.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shan_model.compiled_gate import fuse

CHUNK_FLOATS = {"cpu": 192 << 10, "cuda": 64 << 20}
"""Floats of h that are computed at once: on a CPU they fit a core's cache, on a GPU they fill the device."""
FUSED = {"cuda"}
"""Types of device that use `compiled_gate.py`."""


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
    matmul_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns the gated sums (pairs x D) and gamma (pairs x N).

    `query` and `query_gate` (W_g1 query + b_g) are K x N x D, `key` and `key_gate` (W_g2 key) L x M x D. `weights`
    (pairs x N x M) are the attention weights of Eq. 4 or 5. `logits` (pairs x N) are the pooling logits of the attended
    vectors, to which those of h are added. `query_axis` (0 or 1) is the axis of the query items among the pairs, which
    are K x L or L x K; None means a list, in which query item k is paired with key item k. `matmul_dtype` is the type
    of the products on a GPU (None: the type of the inputs).
    """
    arrays = query, query_gate, key, key_gate
    chunk = max(1, CHUNK_FLOATS[query.device.type] // query[0].numel())
    if query_axis is None:
        parts = zip(*(x.split(chunk) for x in (*arrays, weights, logits)), strict=True)
        return _concatenated([_recomputed(matmul_dtype, *part, pool_D) for part in parts], dim=0)
    if query_axis == 1:
        weights, logits = weights.transpose(0, 1), logits.transpose(0, 1)
    height = min(len(query), chunk)
    width = chunk // height
    keys = list(zip(key.split(width), key_gate.split(width), strict=True))
    rows = [
        _concatenated(
            [
                _recomputed(matmul_dtype, query[:, None], query_gate[:, None], *key, weights, logits, pool_D)
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


def _recomputed(matmul_dtype: torch.dtype | None, *arguments: Tensor) -> tuple[Tensor, Tensor]:
    """Calls `fuse` or `_fuse` so that only its arguments are kept for the backward pass."""
    fused = arguments[0].device.type in FUSED
    function: Callable[..., tuple[Tensor, Tensor]] = (
        functools.partial(fuse, matmul_dtype=matmul_dtype) if fused else _fuse
    )
    if not torch.is_grad_enabled():
        return function(*arguments)
    result: tuple[Tensor, Tensor] = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result


def _fuse(
    query: Tensor,
    query_gate: Tensor,
    key: Tensor,
    key_gate: Tensor,
    weights: Tensor,
    logits: Tensor,
    pool_D: Tensor,
) -> tuple[Tensor, Tensor]:
    """Computes the module's equations for pairs whose query (... x N x D) and key items (... x M x D) broadcast."""
    gate = torch.matmul(weights, key_gate).add_(query_gate).sigmoid_()
    h = query - torch.matmul(weights, key)
    h = h * gate if torch.is_grad_enabled() else h.mul_(gate)
    gamma = (logits + h @ pool_D).softmax(dim=-1)
    return (gamma[..., None, :] @ h)[..., 0, :], gamma
