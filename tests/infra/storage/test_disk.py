"""Files that appear complete or not at all, and the error and the remains of a full disk."""

import errno
import tempfile
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.disk import names_full_disk, replace_file, temporary_file
from infra.storage.folder import FolderStore
from pipelines.features.manifests import local_copy
from tests.support.small_disk import can_mount, run_on_small_disk

FILL = """
import sys
from pathlib import Path
from infra.errors import UserError
from infra.storage.folder import FolderStore
store = FolderStore(Path(sys.argv[1]) / "store")
assert store.put_if_absent("a/small", b"1")
for write in (store.put_if_absent, store.replace):
    try:
        write("a/large", bytes(2 << 20))
    except UserError as error:
        print(error)
assert list(store.objects()) == ["a/small"] and store.incomplete_uploads() == []
assert store.put_if_absent("a/again", b"2")
"""


def test_file_is_replaced_and_nothing_else_is_left(tmp_path: Path):
    path = tmp_path / "new" / "page.html"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    with temporary_file(path, b"newer") as temporary:
        assert temporary.read_bytes() == b"newer"
    with pytest.raises(ZeroDivisionError), temporary_file(path, b"newer"):
        1 / 0  # noqa: B018
    assert [each.name for each in path.parent.iterdir()] == ["page.html"]


def test_a_link_to_a_file_stays_a_link(tmp_path: Path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    replace_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # as safetensors
    ],
)
def test_full_disk_is_one_line_with_path_and_fix(error: Exception):
    with pytest.raises(UserError) as caught, names_full_disk("/data/x", "set TMPDIR"):
        raise error
    assert str(caught.value) == "/data/x: no space is left on this disk; set TMPDIR, then re-run the command"


def test_other_errors_pass():
    with pytest.raises(PermissionError), names_full_disk("/data/x"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_an_unusable_tmpdir_is_not_a_missing_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Python looks for a folder that it can write; where each disk is full it finds none."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "gone")])
    store = FolderStore(tmp_path / "store")
    store.replace("a", b"1")
    with (
        pytest.raises(UserError, match=r"^no temporary folder can be made \(No usable temporary directory.*set TMPDIR"),
        local_copy(store, "a"),
    ):
        pass


@pytest.mark.skipif(not can_mount(), reason="needs user namespaces")
def test_a_full_disk_names_the_object_and_is_left_clean(tmp_path: Path):
    said = run_on_small_disk(tmp_path, FILL, str(tmp_path)).splitlines()
    full = "no space is left on this disk; free space there, then re-run the command"
    assert said == [f"{tmp_path}/store/a/large: {full}"] * 2
