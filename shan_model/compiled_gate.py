"""The gate for GPUs: products of many pairs at once, and what follows them compiled by torch.

The equations are those of `gate_fuse_pool.py`. For a block, the vectors that all query items attend to in one key item
are one product, (K N x M) (M x D). All that follows reads such products, N x D numbers per pair, and is limited by the
card's memory; `torch.compile` fuses it to two passes.

Shapes: K query items of N vectors, L key items of M vectors, D joint width, P listed pairs.
"""

import functools
import warnings
from collections.abc import Callable
from types import FunctionType

import torch
from torch import Tensor

Pool = Callable[..., tuple[Tensor, Tensor]]
COMPILED = {"cuda"}
"""Types of device where `pool` is compiled."""


def fuse(
    query: Tensor,
    query_gate: Tensor,
    key: Tensor,
    key_gate: Tensor,
    weights: Tensor,
    logits: Tensor,
    pool_D: Tensor,
    matmul_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns the gated sums and gamma, as `gate_fuse_pool` does, of a list or a block.

    In a list, `query` and `query_gate` are P x N x D, `key` and `key_gate` P x M x D. In a block they are K x 1 x N x D
    and L x M x D, and the pairs K x L. The products are computed in `matmul_dtype` (None: the type of the inputs).
    """
    dtype = matmul_dtype or weights.dtype
    key, key_gate = key.to(dtype), key_gate.to(dtype)
    if query.dim() == 3:
        weights = weights.to(dtype)
        mixed, mixed_gate = torch.bmm(weights, key), torch.bmm(weights, key_gate)
        return _pooled(query, query_gate, mixed, mixed_gate, logits, pool_D)
    weights = weights.transpose(0, 1).to(dtype).flatten(1, 2)  # L x K N x M
    mixed, mixed_gate = (torch.bmm(weights, each).unflatten(1, logits.shape[::2]) for each in (key, key_gate))
    logits = logits.transpose(0, 1).contiguous()
    gated, gamma = _pooled(query.squeeze(1), query_gate.squeeze(1), mixed, mixed_gate, logits, pool_D)
    return gated.transpose(0, 1), gamma.transpose(0, 1)


def _pooled(
    query: Tensor, query_gate: Tensor, mixed: Tensor, mixed_gate: Tensor, *more: Tensor
) -> tuple[Tensor, Tensor]:
    """Calls `pool`, compiled on a GPU. A size of 1 would need another graph; such calls are small."""
    if query.device.type not in COMPILED or 1 in mixed.shape:
        return pool(query, query_gate, mixed, mixed_gate, *more)
    return compiled(query.device.type, query.shape[-1], mixed.dtype)(query, query_gate, mixed, mixed_gate, *more)


def pool(
    query: Tensor, query_gate: Tensor, mixed: Tensor, mixed_gate: Tensor, logits: Tensor, pool_D: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the gated sums and gamma of pairs P or L x K, given the products (pairs x N x D).

    Sums take the place of products of matrices with vectors, which torch would not fuse.
    """
    h = (query - mixed) * torch.sigmoid(mixed_gate + query_gate)
    gamma = (logits + (h * pool_D).sum(dim=-1)).softmax(dim=-1)
    return (gamma[..., None] * h).sum(dim=-2), gamma


@functools.cache
def compiled(device: str, width: int, dtype: torch.dtype) -> Pool:
    """Returns `pool` compiled by torch for D = `width` and products in `dtype`.

    If that fails, warns and returns `pool` itself. Blocks and lists, with and without gradients, have a graph each (two
    if sizes were equal in the first call).
    """
    from torch._dynamo import mark_static  # takes seconds to import

    # torch limits the graphs of a code object, so each width and type has one of its own.
    code = pool.__code__.replace(co_name=f"pool_{width}_{str(dtype).removeprefix('torch.')}")
    dynamic = torch.compile(FunctionType(code, pool.__globals__), dynamic=True)

    def function(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        *wide, _, pool_D = arguments
        for x in (*wide, pool_D):
            mark_static(x, x.dim() - 1)
        result: tuple[Tensor, Tensor] = dynamic(*arguments)
        return result

    try:
        with torch.inference_mode(False):  # independent of the first caller's mode
            _run_once(function, (5, 7), device, width, dtype, gradients=False)
            _run_once(function, (61,), device, width, dtype, gradients=True)
    except Exception as error:  # noqa: BLE001 - a missing compiler or driver raises many types
        warnings.warn(f"torch.compile failed ({type(error).__name__}); gates run unfused, slower", stacklevel=2)
        return pool
    return function


def _run_once(
    function: Pool, pairs: tuple[int, ...], device: str, width: int, dtype: torch.dtype, gradients: bool
) -> None:
    """Compiles for a block L x K or a list P. All sizes differ, because torch takes equal ones for the same size."""
    own, each = (*pairs[-1:], 37, width), (*pairs, 37, width)
    shapes = (own, torch.float32), (own, torch.float32), (each, dtype), (each, dtype)
    with torch.set_grad_enabled(gradients):
        more = (each[:-1], torch.float32), (each[-1:], torch.float32)
        gated, gamma = function(
            *(torch.ones(shape, dtype=x, device=device, requires_grad=gradients) for shape, x in (*shapes, *more))
        )
        if gradients:
            (gated.sum() + gamma.sum()).backward()
