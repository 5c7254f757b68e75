"""float32 to the float16 that shards hold, and back; exact where float16 has the value, told where it has none."""

import numpy as np
import torch
from numpy.typing import NDArray

_GRAIN = 32768
"""Values that torch converts on the calling thread alone. It is ten times as fast as NumPy, which has no SIMD for it,
and threads of its own would only contend with those that import.
"""
_INFINITE = 0x7C00
"""Bits of float16's exponent: all set in an infinity or a NaN."""


def to_halves(values: NDArray[np.floating]) -> NDArray[np.float16]:
    """Any float32 (or float16) array as float16, rounded to the nearest even; beyond 65504 becomes infinite."""
    return values if values.dtype == np.float16 else _converted(values, torch.float16)


def to_floats(values: NDArray[np.float16]) -> NDArray[np.float32]:
    """The same values as float32."""
    return _converted(values, torch.float32)


def flaw_of(regions_RF: NDArray[np.float16], source_RF: NDArray[np.floating]) -> str | None:
    """Why a photo's features cannot be kept: not finite, or too large for float16. None if they can."""
    if (regions_RF.view(np.uint16) & _INFINITE).max() < _INFINITE:
        return None
    return "features beyond float16 (65504)" if np.isfinite(source_RF).all() else "features are not finite"


def _converted(values: NDArray[np.floating], dtype: torch.dtype) -> NDArray:
    source = torch.from_numpy(np.ascontiguousarray(values))
    result = torch.empty(source.shape, dtype=dtype)
    for there, here in zip(result.view(-1).split(_GRAIN), source.view(-1).split(_GRAIN), strict=True):
        there.copy_(here)
    return result.numpy()
