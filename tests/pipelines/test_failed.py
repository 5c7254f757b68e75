"""What failed: feature sets, runs, with error, log and the command that resumes them."""

from pathlib import Path

import pytest

from infra.errors import UserError
from infra.failures import OBJECT, recorded_failure
from infra.log import bind, configure, event
from infra.storage.open import open_store
from infra.tracking import RANK_LOG, Tracking
from pipelines.failed import FailedWork, failed_folders, failed_runs, resuming


def test_folders_whose_last_job_failed(tmp_path: Path):
    configure("text")
    bind(command="shan extract --dataset d.json")
    event("part_written", "p: 3 photos written, 1 rejected")
    with pytest.raises(UserError), recorded_failure(open_store(f"{tmp_path}/set")):
        raise UserError("too many; fix them")
    (tmp_path / "corrupt").mkdir()
    (tmp_path / "corrupt" / OBJECT).write_text("{")
    (tmp_path / "finished").mkdir()
    corrupt, failed = failed_folders(open_store(str(tmp_path)))
    assert corrupt.error.startswith("failure.json cannot be read")
    assert failed.title.startswith(f"{tmp_path}/set, 20")
    assert failed.text().splitlines()[1:] == [
        "",
        "    too many; fix them",
        "    | p: 3 photos written, 1 rejected",
        "    resume: shan extract --dataset d.json",
    ]


def test_runs_that_failed_name_the_logs_of_ranks(tracking: Tracking):
    configure("text")
    bind(command="python -m jobs.train --name m")
    failing, killed, trial = (tracking.create_run(name, {}) for name in ("failing", "killed", "trial"))
    tracking.set_tags(failing, {f"{RANK_LOG}{rank}": f"10.0.0.{rank}:/tmp/r.log" for rank in (10, 2)})
    with pytest.raises(UserError), tracking.running(failing):
        raise UserError("loss is nan; lower it")
    tracking.client().set_terminated(killed, "KILLED")
    tracking.set_tags(trial, {"mlflow.parentRunId": killed})
    tracking.client().set_terminated(trial, "FAILED")
    tracking.client().set_terminated(tracking.create_run("done", {}))
    found = {failed.title: failed for failed in failed_runs(tracking)}
    assert set(found) == {f"run {failing} (failing), failed", f"run {killed} (killed), killed"}
    failed = found[f"run {failing} (failing), failed"]
    assert failed.resume == "python -m jobs.train --name m --resume"
    assert failed.places == ("log of rank 2: 10.0.0.2:/tmp/r.log", "log of rank 10: 10.0.0.10:/tmp/r.log")
    assert found[f"run {killed} (killed), killed"] == FailedWork(
        f"run {killed} (killed), killed", "no error is recorded", [], ""
    )


@pytest.mark.parametrize(
    ("command", "again"),
    [
        ("shan train --name m", "shan train --name m --resume"),
        ("python -m jobs.train --resume", "python -m jobs.train --resume"),
        ("python -m jobs.extract --dataset train ", "python -m jobs.extract --dataset train "),
        ("", ""),
    ],
)
def test_only_trainings_need_an_option_to_resume(command: str, again: str):
    assert resuming(command) == again
