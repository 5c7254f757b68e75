"""A sequence of texts in an Arrow array: objects of Python exist only for those that are looked at."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_CHUNK = 10_000
"""Texts that exist as Python objects at a time."""


class Texts(Sequence[str]):
    """Texts of an Arrow array, all of them in its order or those at some positions."""

    def __init__(self, array: pa.LargeStringArray, positions: NDArray[np.int64] | None = None) -> None:
        """`positions` of the texts in the array; None for all of them."""
        self._array, self._positions = array, positions

    @property
    def array(self) -> pa.LargeStringArray:
        """The texts as an array."""
        return self._array if self._positions is None else self._array.take(pa.array(self._positions))

    def __len__(self) -> int:
        return len(self._array) if self._positions is None else len(self._positions)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> "Texts": ...
    def __getitem__(self, at: int | slice) -> "str | Texts":
        if isinstance(at, slice):
            return Texts(self._array, np.arange(len(self))[at] if self._positions is None else self._positions[at])
        text: str = self._array[range(len(self))[at] if self._positions is None else int(self._positions[at])].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _CHUNK):
            part = slice(start, start + _CHUNK)
            rows = self._array[part] if self._positions is None else self._array.take(pa.array(self._positions[part]))
            yield from rows.to_pylist()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]
