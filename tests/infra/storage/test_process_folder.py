"""Temporary folders of processes: removed by their process, or by the next one if that was killed."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.process_folder import ProcessFolder, temporary_folder
from tests.support import ROOT


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_folder_is_removed_by_its_process(tmp_path: Path):
    folder = ProcessFolder("shan-a-")
    (folder.path / "file").write_text("x")
    assert folder.path.parent == tmp_path
    folder.remove()
    folder.remove()
    assert not folder.path.exists()


def test_a_folder_of_a_killed_process_is_removed_by_the_next_one(tmp_path: Path):
    others = ("of another program", "shan-b-1.locked", "shan-a-of-an-earlier-release")
    code = (
        "from infra.storage.process_folder import ProcessFolder\n"
        "folder = ProcessFolder('shan-a-')\n"
        "(folder.path / 'file').write_text('x'); print(folder.path, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        cwd=ROOT,
        text=True,
    ) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        for name in others:
            (tmp_path / name).mkdir()
        first = ProcessFolder("shan-a-")
        assert (left / "file").exists()  # its process runs
        other.kill()
    second = ProcessFolder("shan-a-")
    assert not left.exists()
    assert first.path.exists()
    assert second.path.exists()
    assert all((tmp_path / name).exists() for name in others)


def test_a_temporary_folder_is_removed_after_the_body(tmp_path: Path):
    with pytest.raises(FileNotFoundError), temporary_folder("shan-a-") as folder:
        (folder / "sub" / "file").mkdir(parents=False)
    assert list(tmp_path.iterdir()) == []


def test_no_usable_temporary_folder_is_one_line_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with (
        pytest.raises(UserError, match=r"^no temporary folder can be made \(No such file .*; set TMPDIR to a writable"),
        temporary_folder("shan-a-"),
    ):
        pass
