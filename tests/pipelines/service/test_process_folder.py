"""Temporary folders of the service's processes: removed by their process, or by the next one if that was killed."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipelines.service.process_folder import PREFIX, ProcessFolder
from tests.support import ROOT


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_folder_is_removed_by_its_process(tmp_path: Path):
    folder = ProcessFolder()
    (folder.path / "file").write_text("x")
    assert folder.path.parent == tmp_path
    folder.remove()
    folder.remove()
    assert not folder.path.exists()


def test_a_folder_of_a_killed_process_is_removed_by_the_next_one(tmp_path: Path):
    code = (
        "from pipelines.service.process_folder import ProcessFolder\n"
        "folder = ProcessFolder(); (folder.path / 'file').write_text('x'); print(folder.path, flush=True); input()"
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
        (tmp_path / "of another program").mkdir()
        first = ProcessFolder()
        assert left.name.startswith(PREFIX)
        assert (left / "file").exists()  # its process runs
        other.kill()
    second = ProcessFolder()
    assert not left.exists()
    assert first.path.exists()
    assert second.path.exists()
    assert (tmp_path / "of another program").exists()
