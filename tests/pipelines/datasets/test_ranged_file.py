"""A seekable file over an object."""

import io
from pathlib import Path

import pytest

from infra.storage.folder import FolderStore
from pipelines.datasets.ranged_file import RangedFile


def test_it_reads_as_a_file_does(tmp_path: Path):
    (tmp_path / "a").write_bytes(bytes(range(100)))
    file = RangedFile(FolderStore(tmp_path), "a")
    assert (file.readable(), file.seekable(), file.tell()) == (True, True, 0)
    with (tmp_path / "a").open("rb") as plain:
        for offset, whence, count in ((10, io.SEEK_SET, 5), (3, io.SEEK_CUR, 7), (-4, io.SEEK_END, 9), (200, 0, 1)):
            assert file.seek(offset, whence) == plain.seek(offset, whence)
            assert file.read(count) == plain.read(count)
            assert file.tell() == plain.tell()
    assert io.BufferedReader(RangedFile(FolderStore(tmp_path), "a")).read() == bytes(range(100))


def test_a_missing_object_is_reported_when_it_is_needed(tmp_path: Path):
    file = RangedFile(FolderStore(tmp_path), "a")
    with pytest.raises(FileNotFoundError):
        file.seek(0, io.SEEK_END)
    with pytest.raises(FileNotFoundError):
        file.read(1)
