"""Checks of a manifest's columns. `test_manifest.py` has the errors that they lead to."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.datasets.manifest import SPLITS
from pipelines.datasets.manifest_checks import column_hashes, repeated_keys, suspect_rows, text_hashes


def table(**columns: list[object]) -> pa.Table:
    valid = {"key": "k1", "source": "a/1.jpg", "split": "train", "captions": ["a dog"]}
    count = len(next(iter(columns.values())))
    types = {name: pa.list_(pa.string()) if name == "captions" else pa.string() for name in valid}
    return pa.table({name: pa.array(columns.get(name, [value] * count), types[name]) for name, value in valid.items()})


def test_hashes_of_columns_are_those_of_their_texts():
    keys = [f"k{n}" for n in range(25_000)]
    chunked = pa.concat_tables([table(key=keys[:3]), table(key=keys[3:])])
    assert np.array_equal(column_hashes(chunked, "key"), text_hashes(keys))
    assert np.array_equal(column_hashes(chunked, "key", "split"), text_hashes(keys, ["train"] * len(keys)))
    assert text_hashes([""]).tolist() == [0]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("split", "tset"),
        ("key", "a b"),
        ("key", ""),
        ("key", "a\n"),
        ("source", "../1.jpg"),
        ("source", "/1.jpg"),
        ("source", "https://me:secret@host/1.jpg"),
        ("source", "https://host/1.jpg?token=1"),
        ("captions", ["a dog", "!"]),
    ],
)
def test_rows_that_need_a_closer_look_are_found(column: str, value: object):
    valid = table(key=["k1"])[column].to_pylist()[0]
    assert suspect_rows(table(**{column: [valid, value, valid]}), SPLITS).tolist() == [1]
    assert suspect_rows(table(**{column: [valid, valid]}), SPLITS).tolist() == []


def test_rows_with_a_repeated_key_are_found():
    assert repeated_keys(table(key=["a", "b", "a", "c", "b"])).tolist() == [0, 1, 2, 4]
    assert repeated_keys(table(key=["a", "b"])).tolist() == []
