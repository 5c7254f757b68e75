"""Arrays as .npy bytes: the same with and without a copy, and never by pickle."""

import io

import numpy as np
import pytest

from pipelines.features.npy import HEADER_BYTES, is_finite, load_npy, save_npy, view_npy

ARRAYS = [
    np.arange(24, dtype=np.float16).reshape(3, 8),
    np.empty((0, 4), np.float32),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
]


@pytest.mark.parametrize("array", ARRAYS)
def test_an_array_comes_back(array: np.ndarray):
    data = save_npy(array)
    for found in (load_npy(data), view_npy(memoryview(data))):
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_finite_and_other_arrays():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    for value in every:
        assert is_finite(np.array([1, value], np.float16)) == np.isfinite(value), value
    assert is_finite(every[np.isfinite(every)])
    assert is_finite(np.empty((0, 4), np.float16))


def test_a_view_shares_the_bytes():
    data = bytearray(save_npy(np.zeros(4, np.uint8)))
    view = view_npy(memoryview(data))
    data[HEADER_BYTES] = 7
    assert view[0] == 7


def test_pickled_npy_is_rejected():
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_npy(buffer.getvalue())
    with pytest.raises(ValueError, match="allow_pickle=False"):
        view_npy(memoryview(buffer.getvalue()))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        save_npy(np.array([{"a": 1}], dtype=object))


@pytest.mark.parametrize("data", [b"", b"nonsense", save_npy(np.zeros(9))[:-1]])
def test_other_bytes_are_a_value_error(data: bytes):
    with pytest.raises(ValueError, match=r"not a \.npy array"):
        load_npy(data)
    with pytest.raises(ValueError, match=r"not a \.npy array"):
        view_npy(memoryview(data))
