"""Tests of reading single images of a Parquet file."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage.open import open_store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.locate_photos import version_tokens
from pipelines.datasets.parquet_images import read_parquet_image
from pipelines.datasets.photo_sources import read_photo
from tests.support.processes import wait_until
from tests.support.servers import S3Server


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A file of 100 images in row groups of 30."""
    images = [{"bytes": n.to_bytes(1, "big") * 3000, "path": f"{n}.jpg"} for n in range(100)]
    rows = [{"image": image, "uri": "a.jpg"} for image in images]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet", row_group_size=30)
    return tmp_path / "d.parquet"


def reason(uri: str) -> str:
    with pytest.raises(PhotoError) as caught:
        read_photo(uri)
    return str(caught.value)


def test_images_of_all_row_groups_are_read(table: Path):
    for row in (0, 29, 30, 59, 60, 99, 1):
        assert read_photo(f"parquet://image/{row}::{table}") == row.to_bytes(1, "big") * 3000
    assert read_parquet_image(open_store(str(table.parent)), table.name, "image/7", 10) == b"\x07" * 10


def test_a_replaced_file_is_read_again(table: Path):
    store, member = open_store(str(table.parent)), "image/0"
    first = read_parquet_image(store, table.name, member, 99)
    pq.write_table(pa.table({"image": [b"another", b"one"]}), table)
    wait_until(lambda: read_parquet_image(store, table.name, member, 99) != first, 10)
    assert read_parquet_image(store, table.name, member, 99) == b"another"


def test_absent_images_are_rejected(table: Path):
    absent = [f"image/100::{table}", f"photo/0::{table}", f"uri/0::{table}"]
    assert {reason(f"parquet://{uri}") for uri in absent} == {"not in its Parquet file"}
    assert version_tokens([f"parquet://image/0::{table}.gone"]) == {}


def test_a_missing_truncated_or_other_file_is_rejected(table: Path):
    message = "its Parquet file does not exist or cannot be read"
    assert reason(f"parquet://image/0::{table.parent}/none.parquet") == message
    data = table.read_bytes()
    for number, changed in enumerate((b"", b"PAR1", data[:-100], data[: len(data) // 2], b"x" * 100)):
        path = table.with_name(f"{number}.parquet")
        path.write_bytes(changed)
        assert reason(f"parquet://image/0::{path}") == message


def test_images_in_a_bucket_are_read(table: Path, s3_server: S3Server):
    root = f"s3://{s3_server.bucket}/{table.parent.name}"
    open_store(root).put_if_absent("d.parquet", table.read_bytes())
    uri = f"parquet://image/64::{root}/d.parquet"
    assert read_photo(uri) == b"\x40" * 3000
    assert list(version_tokens([uri, f"parquet://image/0::{root}/none.parquet"])) == [uri]
