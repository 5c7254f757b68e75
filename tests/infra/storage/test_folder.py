"""What a folder does as a store beyond the contract that `test_base.py` checks: it has more than regular files."""

import errno
import os
from pathlib import Path

import pytest

from infra.storage.folder import FolderStore
from infra.storage.open import open_store


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["pipe", "folder", "loop", "file/below", "x" * 300])
def test_only_regular_files_exist(tmp_path: Path, name: str):
    """As in a bucket; reading a pipe would wait for its writer without end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    store = open_store(str(tmp_path))
    assert store.info(name) is None
    with pytest.raises(FileNotFoundError):
        store.read(name)


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", ".."])
def test_a_path_traversal_names_no_object(tmp_path: Path, name: str):
    (tmp_path / "outside").write_bytes(b"secret")
    (tmp_path / "store").mkdir()
    store = FolderStore(tmp_path / "store")
    assert store.info(name) is None
    for call in (store.read, store.delete):
        with pytest.raises(FileNotFoundError):
            call(name)
    for write in (store.put_if_absent, store.replace):
        with pytest.raises(FileNotFoundError):
            write(name, b"")
    assert (tmp_path / "outside").read_bytes() == b"secret"
    assert list((tmp_path / "store").iterdir()) == []


def test_a_link_that_fails_otherwise_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Only a file system without hard links is locked and renamed instead."""

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", fails)
    store = FolderStore(tmp_path)
    with pytest.raises(OSError, match="Input/output error"):
        store.put_if_absent("x", b"1")
    assert (store.objects(), store.incomplete_uploads()) == ({}, [])


def test_the_folder_is_created_by_the_first_write(tmp_path: Path):
    store = FolderStore(tmp_path / "a" / "b")
    assert (store.objects(), store.uri) == ({}, f"{tmp_path}/a/b")
    assert list(tmp_path.iterdir()) == []
    store.put_if_absent("c/x", b"1")
    assert (tmp_path / "a" / "b" / "c" / "x").read_bytes() == b"1"


def test_temporary_files_are_not_listed(tmp_path: Path):
    store = FolderStore(tmp_path)
    store.put_if_absent("a/x", b"1")
    (tmp_path / "a" / ".x.0123abcd").write_bytes(b"half")
    assert dict(store.scan("a")) == store.objects()
    assert list(store.objects()) == ["a/x"]
