"""Rows of a .npy file that is too large for memory, read in blocks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError


@dataclass(frozen=True)
class NpyRows:
    """Region features N x R x F on disk. `NpyRows.open(path)` opens them."""

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    """Bytes before the first value."""

    @classmethod
    def open(cls, path: Path) -> "NpyRows":
        """Reads only the header. Nothing is unpickled.

        Raises UserError unless the file is complete and contains N x R x F float32 or float16 in C order.
        """
        try:
            rows = np.lib.format.open_memmap(path, mode="r")
        except Exception as error:  # NumPy parses the header as Python, so a corrupt one raises any parser error
            raise UserError(f"{path}: not a complete .npy file of numbers ({error}); download it again") from error
        if rows.ndim != 3 or 0 in rows.shape or not rows.flags.c_contiguous or rows.dtype.str not in ("<f4", "<f2"):
            raise UserError(
                f"{path}: {rows.dtype} {' x '.join(map(str, rows.shape))}, expected images x regions x features "
                "in float32 or float16 and C order; save it in that form"
            )
        return cls(path, rows.shape, rows.dtype, rows.offset)

    def read(self, start: int, count: int) -> NDArray[np.floating]:
        """Returns `count` rows from `start`, count x R x F. Raises UserError if the file ends before.

        Plain reads: a memory-mapped file that shrinks would kill the process.
        """
        _, regions, width = self.shape
        size = regions * width
        offset = self.offset + start * size * self.dtype.itemsize
        values = np.fromfile(self.path, self.dtype, count * size, offset=offset)
        if values.size != count * size:
            raise UserError(f"{self.path}: it ends before row {start + count}; download it again")
        return values.reshape(count, regions, width)
