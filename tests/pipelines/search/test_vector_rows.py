"""Rows of stored vectors: what the format states, and what is lost."""

import numpy as np
import pytest

from pipelines.search.vector_rows import columns, decode_rows, encode_rows, rows_are_finite

VECTORS = np.array([[1.0, -0.5, 0.25, 0.0], [0.0, 0.0, 0.0, 0.0], [-254.0, 2.0, 3.1, 127.0]], np.float32)


def test_int8_rows_are_integers_and_a_scale():
    rows = encode_rows(VECTORS, "int8")
    assert (rows.dtype, rows.shape) == (np.int8, (3, columns("int8", 4)))
    assert rows[0, :4].tolist() == [127, -64, 32, 0]  # -63.5 and 31.75, rounded to even and to the nearest
    assert rows[2, :4].tolist() == [-127, 1, 2, 64]
    assert rows[0, 4:].tobytes() == np.float32(1 / 127).tobytes()
    np.testing.assert_array_equal(decode_rows(rows)[2], [-254, 2, 4, 128])


@pytest.mark.parametrize(("kind", "part"), [("float16", 2**-11), ("int8", 0.5 / 127)])
def test_an_error_is_a_small_part_of_the_largest_number(kind: str, part: float):
    vectors = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    found = decode_rows(encode_rows(vectors, kind))  # type: ignore[arg-type]
    assert found.dtype == np.float32
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    assert (np.abs(found - vectors) <= 1.001 * part * largest).all()


@pytest.mark.parametrize("kind", ["float16", "int8"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_found(kind: str, bad: float):
    vectors = VECTORS.copy()
    assert rows_are_finite(encode_rows(vectors, kind))  # type: ignore[arg-type]
    vectors[2, 1] = bad
    assert not rows_are_finite(encode_rows(vectors, kind))  # type: ignore[arg-type]


def test_numbers_beyond_float16_are_not_finite():
    assert not rows_are_finite(encode_rows(VECTORS * 1000, "float16"))
    assert rows_are_finite(encode_rows(VECTORS * 1000, "int8"))
