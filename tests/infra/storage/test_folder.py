"""What a folder does as a store beyond the contract that `test_base.py` checks: it has more than regular files."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from infra import file_lock
from infra.errors import StorageError, UserError
from infra.storage.folder import FolderStore, _rename_if_absent
from infra.storage.open import open_store
from tests.support.bad_stores import UNREADABLE, closed


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


@pytest.mark.parametrize("code", ["EPERM", "EACCES", "EMLINK", "EXDEV", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"])
def test_objects_are_put_once_without_hard_links(tmp_path: Path, code: str, monkeypatch: pytest.MonkeyPatch):
    """Each is what `link` answers on some mount; `test_base.py` runs the whole contract on one of them."""

    def fails(*_: object) -> None:
        raise OSError(getattr(errno, code), "refused")

    monkeypatch.setattr(os, "link", fails)
    store = FolderStore(tmp_path)
    assert [store.put_if_absent("a/x", data) for data in (b"1", b"2")] == [True, False]
    assert (store.read("a/x"), store.incomplete_uploads()) == (b"1", [])


def test_a_folder_that_stays_locked_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(file_lock, "DEADLINE_S", 0.1)
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    (tmp_path / "new").touch()
    with pytest.raises(UserError, match=f"^{tmp_path}: another process has held its lock"):
        _rename_if_absent(tmp_path / "new", tmp_path / "x")
    os.close(holder)


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


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs /proc")
def test_a_disk_or_file_system_that_refuses_is_a_storage_error(tmp_path: Path):
    (tmp_path / "x").symlink_to(UNREADABLE)
    fix = "check its permissions and its disk or mount, then re-run the command"
    with pytest.raises(StorageError, match=rf"^{tmp_path}/x: cannot be accessed \(Input/output error\); {fix}$"):
        FolderStore(tmp_path).read("x")
    virtual = FolderStore(Path("/sys/kernel"))  # even root can neither create nor delete files there
    for refused in (
        lambda: virtual.put_if_absent("new", b"1"),
        lambda: virtual.replace("new", b"1"),
        lambda: FolderStore(UNREADABLE.parent).delete(UNREADABLE.name),
    ):
        with pytest.raises(StorageError, match=r"^/(sys|proc)/.*: cannot be accessed \("):
            refused()


def test_a_folder_that_may_not_be_listed_is_an_error(tmp_path: Path):
    store = FolderStore(tmp_path / "root")
    store.put_if_absent("a/x", b"1")
    with closed(store.root), pytest.raises(StorageError, match=rf"^{store.uri}: cannot be accessed \("):
        list(store.folders())
    assert list(store.folders()) == ["a"]


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_or_listing_that_fails_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int):
    store = FolderStore(tmp_path)
    store.put_if_absent("a/x", b"1")

    def stat(path: Path, **options: Any) -> os.stat_result:
        if path == tmp_path / "a" / "x":
            raise OSError(error, os.strerror(error), str(path))
        return real_stat(path, **options)

    real_stat = Path.stat
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", stat)
        for call in (lambda: store.read("a/x"), lambda: store.info("a/x"), store.objects, store.incomplete_uploads):
            with pytest.raises(StorageError, match=rf"^{tmp_path}/a/x: cannot be accessed \({os.strerror(error)}\);"):
                call()

    def scandir(path: str) -> Any:
        if path == unlisted:
            raise OSError(error, os.strerror(error), path)
        return real_scandir(path)

    real_scandir = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    for unlisted in (str(tmp_path), f"{tmp_path}/a"):
        if error == errno.EACCES and unlisted != str(tmp_path):
            assert store.objects() == {}  # another user's folder, such as `lost+found`
            continue
        with pytest.raises(StorageError, match=rf"^{unlisted}: cannot be accessed"):
            store.objects()
