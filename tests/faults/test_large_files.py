"""Large files of data sets with one bad row: the error names the row."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from infra.errors import UserError
from pipelines.datasets.importer import DatasetFiles, dataset_rows

ROWS = 1_000_000
"""Rows of a large file, of which one is bad. The unit tier takes the first tenth."""


@pytest.mark.parametrize(
    "rows", [pytest.param(ROWS // 50, marks=pytest.mark.unit), pytest.param(ROWS, marks=pytest.mark.long)]
)
@pytest.mark.parametrize("format_", ["csv", "tsv", "jsonl", "parquet", "flickr", "karpathy", "coco"])
def test_one_bad_row_of_many_is_named(tmp_path: Path, format_: str, rows: int):
    """Five captions for each photo, one row for each, except in Karpathy's layout. Row `bad` is not valid."""
    bad = rows - 5
    path = tmp_path / f"d.{format_}"
    path.write_bytes(b"".join(large_file(format_, rows, bad)) if format_ != "parquet" else large_parquet(rows, bad))
    where = {"csv": f"line {bad + 1} has 1 values", "tsv": f"line {bad + 1} has 1 values", "jsonl": f"line {bad}: "}
    where |= {"flickr": f"line {bad} \\(", "karpathy": f"image {bad} \\(", "coco": f"annotation {bad} \\("}
    with pytest.raises(UserError, match=where.get(format_, f"row {bad} \\(")):
        dataset_rows(DatasetFiles((str(path),), format_))


def large_file(format_: str, rows: int, bad: int) -> Iterator[bytes]:
    """Yields the parts of a file with a bad row."""
    delimiter = {"csv": b",", "tsv": b"\t"}.get(format_, b"")
    head = {
        "csv": b"uri,caption\n",
        "tsv": b"uri\tcaption\n",
        "karpathy": b'{"images": [',
        "coco": b'{"annotations": [',
    }
    images = ", ".join(f'{{"id": {n}, "file_name": "{n}.jpg"}}' for n in range(rows // 5))
    tail = {"karpathy": b"{}]}", "coco": f'{{"image_id": 0, "caption": "x"}}], "images": [{images}]}}'.encode()}
    yield head.get(format_, b"")
    for row in range(1, rows + 1):
        photo = b"%d.jpg" % (row // 5 % (rows // 5))
        if format_ in ("csv", "tsv"):
            yield b"bad\n" if row == bad else photo + delimiter + b"a caption\n"
        elif format_ == "jsonl":
            yield b'{"uri": \n' if row == bad else b'{"uri": "%b", "caption": "a caption"}\n' % photo
        elif format_ == "flickr":
            yield b"bad\n" if row == bad else b"%b#%d\ta caption\n" % (photo, row % 5)
        elif format_ == "karpathy":
            yield b"{}," if row == bad else b'{"filename": "%d.jpg", "split": "val", "sentences": []},' % row
        else:
            yield b"{}," if row == bad else b'{"image_id": %d, "caption": "a caption"},' % (row // 5 % (rows // 5))
    yield tail.get(format_, b"")


def large_parquet(rows: int, bad: int) -> bytes:
    """Returns a file with a row whose image is null."""
    images = [f"{row // 5}.jpg" if row != bad else None for row in range(1, rows + 1)]
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table({"uri": images, "caption": ["a caption"] * rows}), sink)
    return sink.getvalue().to_pybytes()
