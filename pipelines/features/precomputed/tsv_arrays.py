"""Decodes the arrays of a bottom-up-attention TSV: base64 of little-endian numbers, whose type the file does not state.

Features, boxes and confidences are float32, as in the original files, or float64; ids are int64 or int32. Other types
are recognised and rejected, because their bytes would often pass for numbers of the right type. All functions raise
RowError for a row that cannot be used.
"""

import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.precomputed.float16 import FLOAT16_MAX

Columns = Mapping[str, memoryview]
"""The columns of a row by name."""
_ENOUGH = 500
"""So many random 16-bit patterns are all finite as float16 once in eight million rows."""
_LARGEST_ID = 10**9
"""The bits of 1.0 as an integer are a larger number."""


class RowError(Exception):
    """A row cannot be used. The message is the rejection reason, the same for all rows with the same defect."""


def features(row: Columns, count: int, float_type: str) -> NDArray[np.floating]:
    """Returns the features, `count` x F, as `float_type` (`<f4` or `<f8`), or as the type that they seem to have."""
    source_RF = _not_integers("features", _array(row, "features", float_type or "<f4", count))
    if not float_type and _is_float64(source_RF):
        source_RF = source_RF.view("<f8")
    elif not float_type and _is_float16(source_RF):
        raise RowError("features are float16; write them as float32")
    return source_RF


def floats(row: Columns, name: str, shape: tuple[int, int], limits: tuple[float, float]) -> NDArray[np.float32]:
    """Returns a column of float32, or of float64 within the limits."""
    values = _array(row, name, "<u2", shape[0])
    if values.shape[1] == shape[1]:
        raise RowError(f"{name} are float16; write them as float32")
    if values.shape[1] == 2 * shape[1]:
        return _not_integers(name, values.view("<f4"))
    if values.shape[1] == 4 * shape[1]:
        wide = _not_integers(name, values.view("<f8"))
        if ((wide >= limits[0]) & (wide <= limits[1])).all():
            return wide.astype(np.float32)
    raise RowError(f"{name} do not fit num_boxes")


def confidences(row: Columns, name: str, count: int) -> list[float]:
    """Returns confidences rounded to four digits, as an extraction stores them."""
    values = floats(row, name, (count, 1), (0, 1))
    if not ((values >= -1e-3) & (values <= 1 + 1e-3)).all():  # a NaN is neither
        raise RowError(f"{name} are outside 0 to 1")
    return [round(value, 4) for value in values[:, 0].clip(0, 1).tolist()]


def ids(row: Columns, name: str, count: int) -> list[int]:
    """Returns ids of int64 or int32."""
    values = _array(row, name, "<i4", count)
    if values.shape[1] == 2:
        values = values.view("<i8")
    if values.shape[1] != 1:
        raise RowError(f"{name} do not fit num_boxes")
    if (np.abs(values) > _LARGEST_ID).any():
        raise RowError(f"{name} are floating-point numbers; write them as integers")
    return values[:, 0].tolist()


def _array(row: Columns, name: str, dtype: str, count: int) -> NDArray[Any]:
    """Decodes a base64 column into `count` rows of at least one value."""
    try:
        data = bytearray(binascii.a2b_base64(row[name], strict_mode=True))
    except ValueError as error:
        raise RowError(f"{name} are not valid base64") from error
    if not data or len(data) % (count * np.dtype(dtype).itemsize):
        raise RowError(f"{name} do not fit num_boxes")
    return np.frombuffer(data, dtype).reshape(count, -1)


def _not_integers(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Returns floating-point values. Raises RowError if their bits are small integers: tiny numbers as floats."""
    if 0 < np.abs(values).max() < np.finfo(values.dtype).tiny:
        raise RowError(f"{name} are integers; write them as float32")
    return values


def _is_float64(values: NDArray[np.float32]) -> bool:
    """Returns whether every two values are the bits of one float64 value.

    The upper 32 bits, read as float32, are ordinary numbers. The lower ones are bits of the fraction: of those that are
    not zero, more than a quarter are beyond float16, even if the source was float32. If it was float16, all are zero.
    """
    if values.shape[1] % 2:
        return False
    lower, upper = np.abs(values[:, ::2]), np.abs(values[:, 1::2])
    with np.errstate(invalid="ignore"):
        if not upper.any() or not (upper <= FLOAT16_MAX).all():
            return False
        beyond = lower.size - np.count_nonzero(lower <= FLOAT16_MAX)  # a NaN counts
        return bool(not lower.any() or beyond > 0.1 * np.count_nonzero(lower))


def _is_float16(values: NDArray[np.float32]) -> bool:
    """Returns whether every value holds the bits of two float16 values.

    Of the lower 16 bits of float32 values, 3 % are infinite or NaN as float16. If the source had been float16, the
    lower 13 bits would be zero. A row with fewer than _ENOUGH other values is taken as float32.
    """
    lower = values.view("<u2")[:, ::2]
    nonzero = lower[(lower & 0x1FFF) != 0]
    return bool(nonzero.size >= _ENOUGH and np.isfinite(nonzero.view("<f2")).all())
