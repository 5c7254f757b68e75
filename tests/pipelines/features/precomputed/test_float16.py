"""Conversion of features to float16 and back, against NumPy's."""

import numpy as np
import pytest

from pipelines.features.precomputed.float16 import FLOAT16_MAX, rejection_reason, to_float16, to_float32


@pytest.mark.parametrize("count", [0, 1, 32768, 100_003])
def test_values_are_rounded_as_numpy_rounds_them(count: int):
    values = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)[:, 0]  # not contiguous
    halved = to_float16(values)
    assert halved.dtype == np.float16
    assert np.array_equal(halved, values.astype(np.float16))
    assert np.array_equal(to_float32(halved), halved.astype(np.float32))
    assert to_float16(halved) is halved


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (FLOAT16_MAX, None),
        (-FLOAT16_MAX, None),
        (7e4, "features beyond float16 (65504)"),
        (-np.inf, "features are not finite"),
        (np.nan, "features are not finite"),
    ],
)
def test_values_that_float16_cannot_represent_have_a_reason(value: float, reason: str | None):
    source = np.array([[1.0, value]], np.float32)
    assert rejection_reason(to_float16(source), source) == reason
