"""Rows of a .npy file too large for memory, read a run at a time."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError


@dataclass(frozen=True)
class NpyRows:
    """Region features N x R x F on disk. Opened by `NpyRows.open(path)`."""

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    """Bytes before the first value."""

    @classmethod
    def open(cls, path: Path) -> "NpyRows":
        """Reads the header alone. UserError unless it is a whole .npy file of N x R x F float32 or float16.

        Nothing is ever unpickled.
        """
        try:
            rows = np.lib.format.open_memmap(path, mode="r")
        except Exception as error:  # NumPy reads headers as Python: a damaged one raises what its parser raises
            raise UserError(f"{path}: not a whole .npy file of numbers ({error}); download it again") from error
        if rows.ndim != 3 or 0 in rows.shape or not rows.flags.c_contiguous or rows.dtype.str not in ("<f4", "<f2"):
            raise UserError(
                f"{path}: {rows.dtype} {' x '.join(map(str, rows.shape))}, wanted images x regions x width in float32, "
                "C order; save it anew"
            )
        return cls(path, rows.shape, rows.dtype, rows.offset)

    def read(self, start: int, count: int) -> NDArray[np.floating]:
        """`count` rows from `start`, count x R x F. Plain reads: a mapped file that shrinks would kill the process."""
        _, regions, width = self.shape
        size = regions * width
        offset = self.offset + start * size * self.dtype.itemsize
        values = np.fromfile(self.path, self.dtype, count * size, offset=offset)
        if values.size != count * size:
            raise UserError(f"{self.path}: it ends before row {start + count}; something cuts it while it is read")
        return values.reshape(count, regions, width)
