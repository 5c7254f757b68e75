"""Matrices of different heights in one tensor, so that a GPU works on all of them at once.

Shapes: T rows in all, K matrices N_k x D, N the largest N_k of a selection, D joint width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shan_model.padding import unpadded


@dataclass(frozen=True, eq=False)
class Ragged(Sequence[Tensor]):
    """K matrices N_k x D. Matrix k is `rows_TD[starts[k] : starts[k] + lengths[k]]`; other rows are not used."""

    rows_TD: Tensor
    starts: list[int]
    """In ascending order."""
    lengths: list[int]

    @classmethod
    def of(cls, matrices: Sequence[Tensor]) -> "Ragged":
        """Returns at least one matrix as a Ragged."""
        if isinstance(matrices, Ragged):
            return matrices
        lengths = [len(matrix) for matrix in matrices]
        return cls(torch.cat(list(matrices)), (np.cumsum(lengths) - lengths).tolist(), lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> "Ragged": ...

    def __getitem__(self, index: int | slice) -> "Tensor | Ragged":
        """Returns one matrix, or those of a slice with a positive step."""
        if isinstance(index, slice):
            return Ragged(self.rows_TD, self.starts[index], self.lengths[index])
        return self.rows_TD.narrow(0, self.starts[index], self.lengths[index])

    def __iter__(self) -> Iterator[Tensor]:
        """Yields the matrices; the gradient of all of them is one operation."""
        edges = [edge for start, n in zip(self.starts, self.lengths, strict=True) for edge in (start, start + n)]
        yield from self.rows_TD.split(np.diff([0, *edges, len(self.rows_TD)]).tolist())[1::2]

    def to(self, dtype: torch.dtype) -> "Ragged":
        """Returns the matrices in another type."""
        return Ragged(self.rows_TD.to(dtype), self.starts, self.lengths)

    def padded(self, selected: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Returns the selected matrices, K x N x D with zeros behind each, and their padding (see `padding.py`)."""
        starts, lengths = np.array(self.starts)[list(selected)], np.array(self.lengths)[list(selected)]
        steps = np.arange(lengths.max())
        behind = steps >= lengths[:, None]
        index = np.where(behind, 0, starts[:, None] + steps)
        stacked = self.rows_TD.index_select(0, on_device(index.reshape(-1), self.rows_TD)).unflatten(0, index.shape)
        if not behind.any():
            return stacked, unpadded(stacked)
        hidden = on_device(behind, self.rows_TD)
        padding = stacked.new_zeros(index.shape).masked_fill_(hidden, -torch.inf)
        return stacked.masked_fill(hidden[..., None], 0), padding


def on_device(array: NDArray[np.generic], like: Tensor) -> Tensor:
    """Returns an array as a tensor on the device of another, without waiting for the device's earlier work."""
    return torch.from_numpy(array).to(like.device, non_blocking=True)
