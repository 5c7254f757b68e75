"""Files of an export: all complete or none."""

from pathlib import Path

import pytest

from infra.errors import CorruptDataError, StorageError, UserError
from pipelines.features.precomputed.exported_files import complete_files, partial_file


def test_files_get_their_names_at_the_end(tmp_path: Path):
    folder = tmp_path / "new" / "export"
    with complete_files(folder, ["a", "b"]):
        for name in ("a", "b"):
            partial_file(folder, name).write_text(name)
        assert not (folder / "a").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_an_existing_file_is_not_replaced(tmp_path: Path):
    (tmp_path / "b").write_text("mine")
    with pytest.raises(UserError, match="b exists already"), complete_files(tmp_path, ["a", "b"]):
        pytest.fail("the block was entered")


def test_a_full_disk_leaves_no_file(tmp_path: Path):
    partial_file(tmp_path, "a").write_text("")
    with pytest.raises(UserError, match="cannot be written"), complete_files(tmp_path, ["a"]):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [CorruptDataError("s3://b/x: corrupt"), KeyboardInterrupt()])
def test_an_ended_export_leaves_no_file(tmp_path: Path, error: BaseException):
    partial_file(tmp_path, "a").write_text("")
    with pytest.raises(type(error)), complete_files(tmp_path, ["a"]):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_outage_of_the_store_is_not_taken_for_a_full_disk(tmp_path: Path):
    partial_file(tmp_path, "a").write_text("")
    with pytest.raises(StorageError, match=r"^s3://b/x: unreachable"), complete_files(tmp_path, ["a"]):
        raise StorageError("s3://b/x: unreachable")
    assert list(tmp_path.iterdir()) == []
