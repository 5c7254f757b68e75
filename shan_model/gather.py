"""Encodings of all ranks on every rank, with gradients, so that negatives are found in the whole batch.

Each rank computes its own part of the loss from everybody's encodings. What flows back into an encoding is summed over
the ranks; DDP takes means of the parameters' gradients. So a rank returns its part times the number of ranks, and the
parameters get the gradient of the whole loss.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """This process's rank and the number of ranks; (0, 1) where no process group was made."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def gather_rows(rows_NX: Tensor) -> Tensor:
    """All ranks' rows, one rank's after the other's; ranks may have different numbers of them. With gradients."""
    if world()[1] == 1:
        return rows_NX
    return _Gather.apply(rows_NX, _counts(rows_NX))


def gather_matrices(matrices: Sequence[Tensor]) -> list[list[Tensor]]:
    """Every rank's matrices N_k x D, rank by rank. With gradients; one transfer for all of them."""
    if world()[1] == 1:
        return [list(matrices)]
    lengths = torch.tensor([len(matrix) for matrix in matrices], device=matrices[0].device)
    counts, everyones = _counts(lengths), gather_rows(lengths).tolist()
    flat = list(gather_rows(torch.cat(list(matrices))).split(everyones))
    return [[flat.pop(0) for _ in range(count)] for count in counts]


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of a value of each rank, without gradients."""
    total = value.detach().clone()
    if world()[1] > 1:
        dist.all_reduce(total)
    return total


def max_over_ranks(value: Tensor) -> Tensor:
    """The largest of a value of each rank."""
    largest = value.detach().clone()
    if world()[1] > 1:
        dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


def _counts(rows_NX: Tensor) -> list[int]:
    counts = [torch.empty(1, dtype=torch.int64, device=rows_NX.device) for _ in range(world()[1])]
    dist.all_gather(counts, torch.tensor([len(rows_NX)], device=rows_NX.device))
    return [int(count) for count in counts]


class _Gather(torch.autograd.Function):
    """Forward: every rank's rows; ranks that have fewer pad, for collectives want equal sizes."""

    @staticmethod
    def forward(ctx: Any, rows_NX: Tensor, counts: list[int]) -> Tensor:
        rank = world()[0]
        ctx.own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        padded = rows_NX.new_zeros((max(counts), *rows_NX.shape[1:]))
        padded[: len(rows_NX)] = rows_NX
        everyone = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(everyone, padded)
        return torch.cat([rows[:count] for rows, count in zip(everyone, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        total = slopes[0].contiguous()
        dist.all_reduce(total)
        return total[ctx.own], None
