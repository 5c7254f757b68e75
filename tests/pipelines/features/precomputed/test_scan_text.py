"""Captions and ids of SCAN's format. `test_scan.py` has their errors within an import."""

from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.features.precomputed.scan_text import one_of_each, read_ids, read_pairs, read_scan_captions


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_captions_are_as_many_for_each_row(tmp_path: Path):
    path = write(tmp_path / "dev_caps.txt", "a\n b \nc\nd\n")
    assert read_scan_captions(path, 2) == [("a", "b"), ("c", "d")]
    with pytest.raises(UserError, match=r"3 images and 4 lines in dev_caps\.txt.*write dev_caps\.tsv"):
        read_scan_captions(path, 3)


def test_pairs_give_each_image_any_number_of_captions(tmp_path: Path):
    path = write(tmp_path / "dev_caps.tsv", "1\ta\n1\tb\tc\n")
    assert read_pairs(path, 2, None) == [(), ("a", "b\tc")]
    assert read_pairs(write(path, "y.jpg\ta\n"), 2, ["x.jpg", "y.jpg"]) == [(), ("a",)]
    with pytest.raises(UserError, match=r"line 1 \('y\.jpg.*is not an image's number from 0 to 1"):
        read_pairs(path, 2, None)


def test_ids_are_one_per_image_or_per_caption(tmp_path: Path):
    path = tmp_path / "dev_ids.txt"
    assert read_ids(path, 2) is None
    assert read_ids(write(path, "a.jpg\nb.jpg\n"), 2) == ["a.jpg", "b.jpg"]
    assert read_ids(write(path, "a\na\na\nb\nb\nb\n"), 2) == ["a", "b"]
    for text, message in (("a\na\n", "also the id of image 1"), ("a\nb\nc\n", "3 ids for 2 images")):
        with pytest.raises(UserError, match=message):
            read_ids(write(path, text), 2)


def test_equal_lines_of_an_image(tmp_path: Path):
    assert one_of_each(tmp_path, ["a", "a", "b", "b"], 2) == ["a", "b"]
    with pytest.raises(UserError, match="lines 3 to 4 name more than one image"):
        one_of_each(tmp_path, ["a", "a", "b", "c"], 2)
