"""Temporary folders of checkpoints: removed after failures and kills."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.errors import UserError
from pipelines.training.checkpoint_writer import CheckpointWriter
from tests.support import stored_run
from tests.support.small_disk import can_mount, run_on_small_disk

FILL = """
import os, sys
from pathlib import Path
from infra.errors import UserError
from pipelines.training.checkpoint_writer import CheckpointWriter
from tests.support import stored_run
writer, state = CheckpointWriter(None, "r1", {}), stored_run.new_state()
print(writer.write(state, {"image_to_text": []}).path)
disk = os.statvfs(sys.argv[1])
Path(sys.argv[1], "large").write_bytes(bytes(disk.f_bavail * disk.f_frsize - (8 << 10)))
try:
    writer.write(state, None)
except UserError as error:
    print(error)
print(len(list(Path(sys.argv[1]).glob("shan-checkpoint-*"))))
"""


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_folders_of_killed_workers_of_the_run_are_removed(tmp_path: Path):
    (tmp_path / "shan-checkpoint-r1-abc").mkdir()
    (tmp_path / "shan-checkpoint-r1-abc" / "weights.safetensors").write_bytes(b"half")
    (tmp_path / "shan-checkpoint-r2-def").mkdir()
    CheckpointWriter(None, "r1", {})  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["shan-checkpoint-r2-def"]


def test_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    def save(folder: Path, lineage: dict[str, str]) -> None:
        (folder / "weights.safetensors").write_bytes(b"half")
        raise UserError("not finite")

    writer = CheckpointWriter(None, "r1", {})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="not finite"):
        writer.write(SimpleNamespace(save=save), None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.skipif(not can_mount(), reason="needs user namespaces")
def test_full_disk_error_names_folder_and_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    written, said, left = run_on_small_disk(tmp_path, FILL, str(tmp_path)).splitlines()
    assert written.startswith(f"{tmp_path}/shan-checkpoint-r1-")
    assert said.startswith(f"{tmp_path}/shan-checkpoint-r1-")
    assert said.endswith("set TMPDIR on this node to a folder on a larger disk, then re-run the command")
    assert left == "1"


def test_state_of_the_test_is_small():
    """The disk of the test above must hold one checkpoint."""
    assert sum(tensor.nbytes for tensor in stored_run.new_state().shan.state_dict().values()) < 300_000
