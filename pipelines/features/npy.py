"""Arrays as .npy bytes without pickle, read with or without a copy.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0.
"""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 128
"""Bytes before the values of a .npy file of a small shape."""


def save_npy(array: NDArray[Any]) -> bytes:
    """Returns an array as .npy bytes. Raises ValueError for one that would need pickle."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def load_npy(data: bytes) -> NDArray[Any]:
    """Returns a copy of the array in .npy bytes. Raises ValueError for anything else, also for pickled objects."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy parses the header as Python, so a corrupt one raises any parser error
        raise ValueError(f"not a .npy array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError("not a .npy array: an archive of arrays (.npz)")  # noqa: TRY004 - the bytes are wrong
    return array


def view_npy(data: memoryview) -> NDArray[Any]:
    """Returns the array in .npy bytes as a view of them. Raises ValueError as `load_npy` does."""
    header = _parse_header(bytes(data[:HEADER_BYTES]))
    if header is None:
        return load_npy(bytes(data))
    shape, dtype = header
    try:
        return np.ndarray(shape, dtype, data, HEADER_BYTES)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"not a .npy array: {error}") from error


@lru_cache(64)  # there is one header per number of regions, and parsing takes longer than reading
def _parse_header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """Returns shape and dtype of an array in C order after a header of the usual size, or None for any other."""
    header = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(header) != (1, 0):
            return None
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
    except Exception as error:  # as in `load_npy`
        raise ValueError(f"not a .npy array: {error}") from error
    return None if fortran or dtype.hasobject or header.tell() != HEADER_BYTES else (shape, dtype)


def is_finite(array: NDArray[np.float16]) -> bool:
    """Returns whether an array has no NaN and no infinity, without a temporary array as `np.isfinite` needs.

    Bits of binary16 (IEEE 754) that are not finite are 0x7C00 to 0x7FFF and, with the sign, 0xFC00 to 0xFFFF.
    """
    return not array.size or bool(array.view(np.int16).max() < 0x7C00 and array.view(np.uint16).max() < 0xFC00)
