"""Rows of stored vectors: float16, or int8 with a scale per vector.

A row of float16 is D numbers. A row of int8 is D integers q between -127 and 127 and the four bytes of a float32 scale
s; its vector is s q, with s the vector's largest magnitude divided by 127.

Shapes: V vectors of width D.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.features.npy import is_finite

VectorType = Literal["float16", "int8"]
_SCALE = np.dtype("<f4")
_LARGEST = 127


def columns(kind: VectorType, width: int) -> int:
    """Returns the columns of the stored matrix of vectors of a width."""
    return width if kind == "float16" else width + _SCALE.itemsize


def encode_rows(vectors_VD: NDArray[np.float32], kind: VectorType) -> NDArray[Any]:
    """Returns the rows of vectors. Numbers beyond float16 become infinite in rows of float16."""
    if kind == "float16":
        with np.errstate(over="ignore"):
            return vectors_VD.astype(np.float16)
    with np.errstate(invalid="ignore"):  # the scale of a vector with NaN or infinity states it
        return _integers(vectors_VD)


def _integers(vectors_VD: NDArray[np.float32]) -> NDArray[np.int8]:
    scale_V1 = (np.abs(vectors_VD).max(axis=1, keepdims=True) / _LARGEST).astype(_SCALE)
    rounded_VD = np.rint(vectors_VD / np.where(scale_V1 > 0, scale_V1, 1)).astype(np.int8)
    return np.hstack([rounded_VD, scale_V1.view(np.int8)])


def decode_rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Returns the vectors of rows."""
    if rows.dtype == np.float16:
        return rows.astype(np.float32)
    vectors_VD = rows[:, : -_SCALE.itemsize].astype(np.float32)
    vectors_VD *= _scales(rows)
    return vectors_VD


def rows_are_finite(rows: NDArray[Any]) -> bool:
    """Returns whether the vectors of rows have neither NaN nor infinity."""
    if rows.dtype == np.float16:
        return is_finite(rows)
    return bool(np.isfinite(_scales(rows) if rows.dtype == np.int8 else rows).all())


def _scales(rows: NDArray[np.int8]) -> NDArray[np.float32]:
    """Returns the scales V x 1 of rows of int8."""
    return np.ascontiguousarray(rows[:, -_SCALE.itemsize :]).view(_SCALE)
