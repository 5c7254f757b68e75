"""Progress of a training that is not running."""

from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.training import stored_progress as module
from pipelines.training.checkpoint import TrainingProgress
from pipelines.training.run_directory import RunDirectory, open_run_directory
from pipelines.training.stored_progress import stored_progress

LIST = "checkpoint_manager_snapshot.json"


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return open_run_directory(str(tmp_path), "m-0123456789ab")


def test_without_a_checkpoint_progress_is_zero(directory: RunDirectory):
    assert stored_progress(directory) == TrainingProgress()


@pytest.mark.parametrize("truncated", ["", '{"checkpoint_results": [{"check'])
def test_truncated_list_is_named(
    directory: RunDirectory, truncated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    directory.claim()
    (tmp_path / directory.name / LIST).write_text(truncated)
    with pytest.raises(UserError, match=r"m-0123456789ab: Ray Train's list of the checkpoints is corrupt"):
        stored_progress(directory)


def test_unreachable_store_is_not_reported_as_corrupt(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="127"):
        stored_progress(open_run_directory("s3://bucket/runs", "m-0123456789ab"))
