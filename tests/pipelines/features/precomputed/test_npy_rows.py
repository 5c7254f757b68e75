"""Blocks of rows of a .npy file."""

import os
from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.features.precomputed.npy_rows import NpyRows


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_blocks_of_rows_are_read(tmp_path: Path, dtype: type[np.floating]):
    values = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    rows = NpyRows.open(tmp_path / "a.npy")
    assert (rows.shape, rows.dtype) == ((5, 2, 3), dtype)
    assert np.array_equal(rows.read(1, 3), values[1:4])
    os.truncate(tmp_path / "a.npy", rows.offset + 30 * values.itemsize - 1)
    assert np.array_equal(rows.read(0, 4), values[:4])
    with pytest.raises(UserError, match="it ends before row 5"):
        rows.read(4, 1)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 3), np.float32),
        np.zeros((2, 0, 3), np.float32),
        np.zeros((2, 3, 4)),
        np.zeros((2, 3, 4), ">f4"),
        np.asfortranarray(np.zeros((2, 3, 4), np.float32)),
    ],
    ids=["two dimensions", "empty", "float64", "big-endian", "Fortran order"],
)
def test_other_arrays_are_refused(tmp_path: Path, values: np.ndarray):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UserError, match="expected images x regions x features"):
        NpyRows.open(tmp_path / "a.npy")


def test_pickled_objects_are_refused(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match=r"not a complete \.npy file of numbers"):
        NpyRows.open(tmp_path / "a.npy")
