"""What is on record of a training that is not under way."""

from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.training import driver as train_run
from pipelines.training.checkpoint import Progress
from pipelines.training.driver import stored_progress
from pipelines.training.run_directory import place_at

RECORD = "checkpoint_manager_snapshot.json"


def test_a_training_that_has_no_checkpoint_is_at_its_beginning(tmp_path: Path):
    assert stored_progress(place_at(str(tmp_path), "m-0123456789ab")) == Progress()


@pytest.mark.parametrize("half", ["", '{"checkpoint_results": [{"check'])
def test_half_a_record_is_named(tmp_path: Path, half: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train_run, "LOOKS", 1)
    place = place_at(str(tmp_path), "m-0123456789ab")
    place.claim("r")
    (tmp_path / place.name / RECORD).write_text(half)
    with pytest.raises(UserError, match=r"m-0123456789ab: Ray Train's record of its checkpoints is damaged"):
        stored_progress(place)


def test_a_store_that_refuses_is_not_taken_for_a_damaged_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="127"):
        stored_progress(place_at("s3://bucket/runs", "m-0123456789ab"))
