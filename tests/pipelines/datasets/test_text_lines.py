"""Lines of a UTF-8 text file."""

from pathlib import Path

import pytest

from pipelines.datasets.text_lines import text_lines


def test_lines_keep_their_ends_and_no_byte_order_mark(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes("é\n\u2028b\r\n\ufeffc".encode("utf-8-sig"))
    assert list(text_lines(path)) == ["é\n", "\u2028b\r\n", "\ufeffc"]
    path.write_bytes(b"")
    assert list(text_lines(path)) == []


def test_a_line_that_is_not_text_is_named(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\n\xff\n")
    lines = text_lines(path)
    assert next(lines) == "a\n"
    with pytest.raises(ValueError, match="line 2 is not UTF-8 text"):
        next(lines)
