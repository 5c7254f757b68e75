"""Arrays of a TSV in the types that are read, and in those that are recognised and rejected."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipelines.features.precomputed.tsv_arrays import RowError, confidences, features, floats, ids

COUNT = 36
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 1600, COUNT)
BOXES = RNG.uniform(0, 480, (COUNT, 4))
CONFIDENCES = RNG.uniform(size=COUNT)
FEATURES = RNG.uniform(0, 5, (COUNT, 64))


def column(values: np.ndarray, dtype: str) -> dict[str, memoryview]:
    return {"x": memoryview(base64.b64encode(values.astype(dtype).tobytes()))}


def boxes(row: dict[str, memoryview], name: str, count: int) -> Any:
    return floats(row, name, (count, 4), (-1, 481))


def features_of(row: dict[str, memoryview], name: str, count: int) -> Any:
    return features({"features": row[name]}, count, "")


@pytest.mark.parametrize("dtype", ["<i4", "<i8"])
def test_ids_of_both_widths_are_read(dtype: str):
    assert ids(column(IDS, dtype), "x", COUNT) == IDS.tolist()
    assert ids(column(np.zeros(COUNT), dtype), "x", COUNT) == [0] * COUNT


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_floating_point_numbers_of_both_widths_are_read(dtype: str):
    assert np.allclose(boxes(column(BOXES, dtype), "x", COUNT), BOXES, atol=1e-4)
    assert np.allclose(confidences(column(CONFIDENCES, dtype), "x", COUNT), CONFIDENCES, atol=1e-4)
    assert np.allclose(features_of(column(FEATURES, dtype), "x", COUNT), FEATURES, atol=1e-4)


@pytest.mark.parametrize(
    ("read", "values", "dtype", "reason"),
    [
        (ids, IDS, "<f4", "are floating-point numbers; write them as integers"),
        (ids, IDS, "<f8", "are floating-point numbers; write them as integers"),
        (ids, IDS, "<i2", "do not fit num_boxes"),
        (boxes, BOXES, "<f2", "are float16; write them as float32"),
        (boxes, BOXES, "<i4", "are integers; write them as float32"),
        (boxes, BOXES, "<i8", "are integers; write them as float32"),
        (boxes, BOXES[:-1], "<f4", "do not fit num_boxes"),
        (confidences, CONFIDENCES, "<f2", "are float16; write them as float32"),
        (confidences, 100 * CONFIDENCES, "<i4", "are integers; write them as float32"),
        (features_of, FEATURES, "<f2", "are float16; write them as float32"),
        (features_of, FEATURES, "<i4", "are integers; write them as float32"),
        (features_of, FEATURES, "<i8", "are integers; write them as float32"),
    ],
)
def test_other_types_are_named(read: Callable[..., Any], values: np.ndarray, dtype: str, reason: str):
    with pytest.raises(RowError, match=f"{reason}$"):
        read(column(values, dtype), "x", COUNT)
