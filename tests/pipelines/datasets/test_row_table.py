"""Tests of rows in Arrow batches."""

import numpy as np
import pytest

from pipelines.datasets.row_table import Row, RowTable

ROWS = [
    (n % 3, Row(f"row {n}", f"{n}.jpg", (f"caption {n}", "ü") if n % 2 else (), "val", f"k{n}", n % 5 == 0, f"t{n}"))
    for n in range(25_000)
]
"""More than two batches."""


@pytest.fixture(scope="module")
def table() -> RowTable:
    table = RowTable()
    for file, row in ROWS:
        table.append(file, row)
    return table


def test_rows_and_columns_come_back_in_order(table: RowTable):
    assert list(table.columns("source", "key")) == [(row.source, row.key) for _, row in ROWS]
    assert list(table.take(np.arange(len(ROWS)))) == ROWS


def test_rows_are_taken_in_any_order(table: RowTable):
    order = np.random.default_rng(0).permutation(len(ROWS))
    assert list(table.take(order)) == [ROWS[number] for number in order]
    assert list(table.take(np.array([24_999, 0, 24_999]))) == [ROWS[24_999], ROWS[0], ROWS[24_999]]
    assert list(table.take(np.empty(0, np.int64))) == []


def test_drained_rows_are_forgotten():
    table = RowTable()
    for file, row in ROWS[:3]:
        table.append(file, row)
    assert list(table.drain()) == ROWS[:3]
    assert list(table.columns("source")) == []


def test_text_that_is_not_unicode_is_an_error():
    table = RowTable()
    table.append(0, Row("row 1", "\ud800.jpg"))
    with pytest.raises(UnicodeEncodeError):
        table.flush()
