"""Gathers the encodings of all ranks on each rank, with gradients, so that negatives come from the complete batch.

Each rank computes its own part of the loss from the encodings of all ranks. The gradient of an encoding is the sum over
the ranks, while DDP averages the gradients of the parameters. Each rank therefore returns its part multiplied by the
number of ranks, and the parameters receive the gradient of the complete loss.

Shapes: N rows (their number may differ between ranks), X any further axes, D joint width.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """Returns this process's rank and the number of ranks; (0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def gather_rows(rows_NX: Tensor, counts: Sequence[int] | None = None) -> Tensor:
    """Returns the rows of all ranks, concatenated in rank order, with gradients.

    `counts`, the number of rows of each rank, saves a transfer where it is known.
    """
    if world()[1] == 1:
        return rows_NX
    return _Gather.apply(rows_NX, _counts(rows_NX) if counts is None else counts)


def gather_pairs(
    photos: Tensor | Sequence[Tensor], captions: Tensor | Sequence[Tensor]
) -> tuple[Tensor | Sequence[Tensor], Tensor | Sequence[Tensor], list[int]]:
    """Returns the photos and captions of all ranks, in rank order, with gradients, and the number that each rank gave.

    Each rank gives as many matrices R x D as matrices W x D; they travel in one transfer.
    """
    if world()[1] == 1:
        return photos, captions, [len(captions)]
    matrices = [*photos, *captions]
    lengths = torch.tensor([len(matrix) for matrix in matrices], device=matrices[0].device)
    counts = _counts(lengths)
    all_lengths = gather_rows(lengths, counts).tolist()
    rest = iter(all_lengths)
    rows = [sum(islice(rest, count)) for count in counts]
    flat = iter(gather_rows(torch.cat(matrices), rows).split(all_lengths))
    # Of each rank, the photos precede the captions.
    parts = [[list(islice(flat, count // 2)) for _ in range(2)] for count in counts]
    all_photos, all_captions = ([matrix for part in side for matrix in part] for side in zip(*parts, strict=True))
    return all_photos, all_captions, [count // 2 for count in counts]


def sum_over_ranks(value: Tensor) -> Tensor:
    """Returns the sum of a value over the ranks, without gradients."""
    total = value.detach().clone()
    if world()[1] > 1:
        dist.all_reduce(total)
    return total


def max_over_ranks(value: Tensor) -> Tensor:
    """Returns the maximum of a value over the ranks, without gradients."""
    largest = value.detach().clone()
    if world()[1] > 1:
        dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


def any_over_ranks(*flags: Tensor) -> list[bool]:
    """Returns of each flag, a scalar, whether it is true on any rank. The flags share one transfer."""
    return [bool(flag) for flag in max_over_ranks(torch.stack([flag.float() for flag in flags])).tolist()]


def gather_objects(own: Any) -> list[Any]:
    """Returns the objects of all ranks, in rank order; they must be picklable."""
    if world()[1] == 1:
        return [own]
    found = [None] * world()[1]
    dist.all_gather_object(found, own)
    return found


def _counts(rows_NX: Tensor) -> list[int]:
    """Returns the number of rows of each rank."""
    counts = [torch.empty(1, dtype=torch.int64, device=rows_NX.device) for _ in range(world()[1])]
    dist.all_gather(counts, torch.tensor([len(rows_NX)], device=rows_NX.device))
    return [int(count) for count in counts]


class _Gather(torch.autograd.Function):
    """Forward: the rows of all ranks, padded for the transfer because collectives need equal sizes."""

    @staticmethod
    def forward(ctx: Any, rows_NX: Tensor, counts: Sequence[int]) -> Tensor:
        rank = world()[0]
        ctx.own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        padded = rows_NX.new_zeros((max(counts), *rows_NX.shape[1:]))
        padded[: len(rows_NX)] = rows_NX
        gathered = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(gathered, padded)
        return torch.cat([rows[:count] for rows, count in zip(gathered, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[ctx.own], None
