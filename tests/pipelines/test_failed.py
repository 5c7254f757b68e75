"""What failed: feature sets, runs, with error, log and the command that resumes them."""

from pathlib import Path
from typing import Any

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from infra.errors import UserError
from infra.failures import OBJECT, recorded_failure
from infra.log import bind, configure, event
from infra.ray_jobs import COMMAND
from infra.storage.open import open_store
from infra.tracking import RANK_LOG, SUBMISSION_VARIABLE, Tracking
from pipelines.failed import (
    MAX_FAILED,
    FailedWork,
    _has_run,
    _last_attempts,
    _submitted_command,
    failed_folders,
    failed_runs,
    resuming,
)


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
    failing, killed = (tracking.create_run(name, {}) for name in ("failing", "killed"))
    configure("text")
    bind(command="python -m jobs.train --resume --name m")  # of another terminal
    tracking.set_tags(failing, {f"{RANK_LOG}{rank}": f"10.0.0.{rank}:/tmp/r.log" for rank in (10, 2)})
    with pytest.raises(UserError), tracking.running(failing):
        raise UserError("loss is nan; lower it")
    tracking.client().set_terminated(killed, "KILLED")
    for status in ("FAILED", "KILLED") * MAX_FAILED:  # more trials than are shown, newer than the other runs
        trial = tracking.create_run("trial", {})
        tracking.set_tags(trial, {"mlflow.parentRunId": killed})
        tracking.client().set_terminated(trial, status)
    tracking.client().set_terminated(tracking.create_run("done", {}))
    found = {failed.title: failed for failed in failed_runs(tracking)}
    assert set(found) == {f"run {failing} (failing), failed", f"run {killed} (killed), killed"}
    failed = found[f"run {failing} (failing), failed"]
    assert failed.resume == "python -m jobs.train --resume --name m"
    assert failed.places == ("log of rank 2: 10.0.0.2:/tmp/r.log", "log of rank 10: 10.0.0.10:/tmp/r.log")
    assert found[f"run {killed} (killed), killed"] == FailedWork(
        f"run {killed} (killed), killed", "no error is recorded", [], "python -m jobs.train --name m --resume"
    )


def job(number: int, status: str, command: str, **more: Any) -> JobDetails:
    submission = f"{command.partition(' ')[0]}-{number:012x}.1"
    entrypoint = f"python -m jobs.{command} --config=config-0.yaml"
    details = {"type": JobType.SUBMISSION, "entrypoint": entrypoint, "metadata": {COMMAND: command}, **more}
    return JobDetails(submission_id=submission, status=JobStatus(status), start_time=number, **details)


def test_an_attempt_before_the_last_one_is_left_out():
    resumed = [job(1, "FAILED", "train --name m"), job(2, "RUNNING", "train --name m --resume")]
    repeated = [job(3, "FAILED", "extract --config=/a.yaml"), job(4, "FAILED", "extract --config=/a.yaml")]
    other = [job(5, "FAILED", "extract --config=/b.yaml"), job(6, "SUCCEEDED", "extract --config=/c.yaml")]
    assert _last_attempts([*resumed, *repeated, *other]) == [other[1], other[0], repeated[1], resumed[1]]


@pytest.mark.parametrize(
    ("entrypoint", "metadata", "command"),
    [
        (
            "python -m jobs.train --config=config-0.yaml",
            {COMMAND: "train --config=/u/a.yaml"},
            "train --config=/u/a.yaml",
        ),
        ("python -m jobs.train --name m", {}, "train --name m"),
        ("shan train --name m", None, "train --name m"),
        ("python theirs.py", {}, ""),
    ],
    ids=["submitted", "KubeRay", "installed", "another project"],
)
def test_the_command_of_a_job_is_the_users(entrypoint: str, metadata: dict[str, str] | None, command: str):
    assert _submitted_command(job(1, "FAILED", "x", entrypoint=entrypoint, metadata=metadata)) == command


def test_a_killed_training_has_the_run_that_its_job_created(tracking: Tracking, monkeypatch: pytest.MonkeyPatch):
    """A driver that was killed leaves no line about `--resume` in its log."""
    killed, refused = job(1, "FAILED", "train --name m"), job(2, "FAILED", "train --name n")
    monkeypatch.setenv(SUBMISSION_VARIABLE, str(killed.submission_id))
    tracking.create_run("m", {})
    assert _has_run(killed, tracking)
    assert not _has_run(refused, tracking)
    assert not _has_run(killed, None)


@pytest.mark.parametrize(
    ("command", "again"),
    [
        ("shan train --name m", "shan train --name m --resume"),
        ("train --name m", "train --name m --resume"),
        ("shan submit train --name m --address http://a", "shan submit train --name m --address http://a --resume"),
        ("python -m jobs.submit train --resume=true --x y", "python -m jobs.submit train --resume=true --x y"),
        ("python -m jobs.train --resume", "python -m jobs.train --resume"),
        ("python -m jobs.extract --dataset train ", "python -m jobs.extract --dataset train "),
        ("", ""),
    ],
)
def test_only_trainings_need_an_option_to_resume(command: str, again: str):
    assert resuming(command) == again
