"""Lines of bottom-up-attention TSV files: plain and gzip, headers, and files of other formats."""

import codecs
import gzip
import os
from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.features.precomputed.tsv_lines import image_id, tsv_files, tsv_lines

HEADER = b"image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures\n"


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_rows_without_headers_empty_lines_and_byte_order_mark(tmp_path: Path, pack):
    (tmp_path / "a.tsv").write_bytes(pack(codecs.BOM_UTF8 + HEADER + b"1\tx\n\n \n2\ty\r\n" + HEADER + b"3\tz"))
    assert list(tsv_lines([tmp_path / "a.tsv"])) == [b"1\tx\n", b"2\ty\r\n", b"3\tz"]


def test_parts_of_a_folder_are_read_in_name_order(tmp_path: Path):
    for name in ("b.tsv.1", "a.TSV.gz", "notes.txt", ".hidden.tsv"):
        (tmp_path / name).write_text("")
    assert [path.name for path in tsv_files(tmp_path)] == ["a.TSV.gz", "b.tsv.1"]
    assert tsv_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(UserError, match="no TSV file there"):
        tsv_files(tmp_path / "none")


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("1", "1"),
        (" a.jpg ", "a.jpg"),
        ("b'7'", "7"),
        *((str(name.encode()), name) for name in ("café.jpg", "it's.jpg", "写\\'\".jpg", "a b.jpg")),
        ("b'a\\x'", "a\\x"),
        ("b'a\"", "b'a\""),
        ("b", "b"),
    ],
)
def test_image_ids(column: str, name: str):
    assert image_id(f"{column}\tx".encode()) == name
    assert image_id(column.encode()) == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image_id\timage_h\timage_w\tnum_boxes\tboxes\tfeatures\n", "image_h, image_w, .* in neither known order"),
        (gzip.compress(os.urandom(5000))[:-50], "cannot be read to its end"),
        (b"PK\x03\x04" + bytes(100), "it is a zip archive; unpack it"),
        ("101\t640".encode("utf-16"), "it is UTF-16 text; save it as UTF-8"),
    ],
)
def test_a_file_that_is_not_a_tsv_is_one_line(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        list(tsv_lines([tmp_path / "a.tsv"]))
    assert "\n" not in str(caught.value)
