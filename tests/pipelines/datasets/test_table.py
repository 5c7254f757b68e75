"""Tests of the table importer: CSV, JSON lines and Parquet give the same manifest."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import UserError
from pipelines.datasets.importer import import_dataset

ROWS = [
    {"uri": "a.jpg", "split": "train", "captions": ["a dog, running", 'it "barks"']},
    {"uri": "http://host/b.c.jpg", "split": "val", "captions": ["12"]},
]
WANTED = [
    ("a", "a.jpg", "train", ("a dog, running", 'it "barks"')),
    ("b_c", "http://host/b.c.jpg", "val", ("12",)),
]


@pytest.fixture(autouse=True)
def photo(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")


def rows(path: Path) -> list[tuple]:
    manifest = import_dataset(path, path.parent)
    return [(row.key, row.source, row.split, row.captions) for row in manifest.photos()]


def test_json_lines_and_parquet_contain_lists_of_captions(tmp_path: Path):
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    assert rows(tmp_path / "d.jsonl") == rows(tmp_path / "d.parquet") == WANTED


def test_csv_has_one_row_per_caption_and_all_columns_are_text(tmp_path: Path):
    text = 'uri,split,caption\na.jpg,train,"a dog, running"\nhttp://host/b.c.jpg,val,12\na.jpg,train,"it ""barks"""\n'
    (tmp_path / "d.csv").write_text(text)
    assert rows(tmp_path / "d.csv") == WANTED


def test_the_default_split_is_train_and_a_key_column_is_used(tmp_path: Path):
    (tmp_path / "d.csv").write_text("uri,caption,key\na.jpg,x,mine\n")
    assert rows(tmp_path / "d.csv") == [("mine", "a.jpg", "train", ("x",))]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("d.csv", "path,caption\na.jpg,x\n", "columns are path, caption; it needs `uri` and `caption` or `captions`"),
        ("d.csv", "", "not readable as csv"),
        ("d.csv", "uri,caption\na.jpg\n", "not readable as csv"),
        ("d.csv", "uri,caption\n../a.jpg,x\n", "must stay below the photo root"),
        ("d.csv", "uri,caption\n/etc/passwd,x\n", "must stay below the photo root"),
        ("d.csv", "uri,caption\na.jpg,\n", "empty caption"),
        ("d.csv", "uri,caption,split\na.jpg,x,train\na.jpg,y,val\n", "row 2 .* differ in split"),
        ("d.csv", "uri,caption\na.jpg,x\nb/a.jpg,x\n", "share the key a"),
        ("d.csv", "uri,caption\nnone.jpg,x\n", "1 of 1 photos of data set d_?\\w* do not exist"),
        ("d.csv", "uri,caption,key\na.jpg,x,a/b\n", "key is 'a/b'"),
        (
            "d.jsonl",
            '{"uri": "a.jpg", "captions": ["x"]}\n{"uri": "a.jpg", "captions": ["y"]}\n',
            "row 2 .* has the key",
        ),
        ("d.jsonl", '{"uri": 3, "captions": ["x"]}\n', "row 1 .* must be text"),
        ("d.jsonl", '{"uri": "a.jpg", "captions": [3]}\n', "row 1 .* must be text"),
        ("d.jsonl", "nonsense", "not readable as jsonl"),
        ("d.parquet", "nonsense", "not readable as parquet"),
    ],
)
def test_an_invalid_table_is_reported(tmp_path: Path, name: str, text: str, message: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        rows(tmp_path / name)
