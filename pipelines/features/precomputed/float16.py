"""Conversion between float32 and the float16 that shards store, and the check that no value overflows."""

import numpy as np
from numpy.typing import NDArray

_CHUNK = 32768
"""Values that torch converts on the calling thread. Torch is ten times as fast as NumPy, which has no SIMD code for
this conversion, and threads of its own would only compete with those of the import.
"""
FLOAT16_MAX = 65504.0
_EXPONENT = 0x7C00
"""Bits of float16's exponent: all set in an infinity or a NaN."""


def to_float16(values: NDArray[np.floating]) -> NDArray[np.float16]:
    """Returns float32 (or float16) values as float16, rounded to nearest even; beyond 65504 they become infinite."""
    return values if values.dtype == np.float16 else _convert(values, "float16")


def to_float32(values: NDArray[np.float16]) -> NDArray[np.float32]:
    """Returns the same values as float32."""
    return _convert(values, "float32")


def rejection_reason(regions_RF: NDArray[np.float16], source_RF: NDArray[np.floating]) -> str | None:
    """Returns why a photo's features cannot be stored: not finite, or too large for float16. None if they can."""
    if (regions_RF.view(np.uint16) & _EXPONENT).max() < _EXPONENT:
        return None
    return "features beyond float16 (65504)" if np.isfinite(source_RF).all() else "features are not finite"


def _convert(values: NDArray[np.floating], dtype: str) -> NDArray:
    import torch  # in the function, as every command imports this module for its options

    source = torch.from_numpy(np.ascontiguousarray(values))
    result = torch.empty(source.shape, dtype=getattr(torch, dtype))
    for target, chunk in zip(result.view(-1).split(_CHUNK), source.view(-1).split(_CHUNK), strict=True):
        target.copy_(chunk)
    return result.numpy()
