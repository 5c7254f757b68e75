"""A JSON document with a list of images."""

from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.datasets.json_document import read_image_list


def test_a_byte_order_mark_and_repeated_other_fields_are_read(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_bytes('{"images": [{"id": 1, "note": "a", "note": "é"}]}'.encode("utf-8-sig"))
    assert read_image_list(path) == {"images": [{"id": 1, "note": "é"}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [', "not readable as JSON"),
        (b'{"images": [{"split": "train", "split": "val"}]}', "an object has `split` twice"),
        (b"\xff", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b"[]", "needs a list `images`"),
        (b'{"images": {}}', "needs a list `images`"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_another_document_is_one_line(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_image_list(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_document_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match="No such file"):
        read_image_list(tmp_path / "none.json")
