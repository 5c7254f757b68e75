"""What `jobs.status` shows of work that failed: its error, the last lines of its log, and the command to resume it."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from infra.errors import StorageError, UserError
from infra.failures import MAX_LINE, OBJECT, TAG, Failure
from infra.ray_jobs import COMMAND, job_client, last_log_lines
from infra.redaction import redact
from infra.source_tree import program
from infra.storage.base import Store
from infra.tracking import RANK_LOG, RUN_COMMAND, SUBMISSION, Tracking

if TYPE_CHECKING:
    from mlflow.entities import Run
    from ray.job_submission import JobDetails

LINES = 10
"""Lines of a log that are shown."""
MAX_FAILED = 20
"""Number of failed runs and of failed jobs that are shown, the newest ones."""
_PROGRAM = re.compile(r"(python -m jobs\.|shan )(submit )?")
_RESUME = re.compile(r" --resume(=\S*)?(?=\s|$)")


@dataclass(frozen=True)
class FailedWork:
    """Work that failed or was interrupted."""

    title: str
    error: str
    log: list[str]
    resume: str
    """Command that resumes it; empty if it is unknown."""
    places: tuple[str, ...] = ()
    """Further logs."""

    def text(self) -> str:
        """Returns the title, and below it the error, the end of the log, further logs and the command."""
        lines = [*([self.error] if self.error else []), *(f"| {line}" for line in self.log[-LINES:]), *self.places]
        resume = [f"resume: {self.resume}"] if self.resume else []
        return "\n".join([f"**{self.title}**", "", *(f"    {line}" for line in [*lines, *resume])])


def failed_folders(root: Store) -> Iterator[FailedWork]:
    """Yields the feature sets or indexes below a root whose last job failed."""
    for folder in sorted(root.folders()):
        try:
            failure = Failure.parse(root.read(f"{folder}/{OBJECT}"))
        except FileNotFoundError:
            continue
        except (UserError, StorageError, ValueError) as error:
            yield FailedWork(f"{root.uri}/{folder}", f"{OBJECT} cannot be read ({error}); delete it", [], "")
        else:
            yield _of(f"{root.uri}/{folder}, {failure.time}", failure)


def failed_runs(tracking: Tracking) -> Iterator[FailedWork]:
    """Yields the newest runs that failed or were interrupted. Trials are left out: the sweep resumes them."""
    found = [run for status in ("FAILED", "KILLED") for run in islice(_ended(tracking, status), MAX_FAILED)]
    for run in sorted(found, key=lambda run: -run.info.start_time)[:MAX_FAILED]:
        tags = run.data.tags
        title = f"run {run.info.run_id} ({run.info.run_name}), {run.info.status.lower()}"
        try:
            failure = Failure.parse(tags[TAG].encode())
            failed = replace(_of(title, failure), resume=resuming(failure.command))
        except (KeyError, ValueError):  # of an earlier release, killed, or the store was unreachable
            failed = FailedWork(title, "no error is recorded", [], resuming(redact(tags.get(RUN_COMMAND, ""))))
        yield replace(failed, places=tuple(f"log of rank {rank}: {place}" for rank, place in rank_logs(tags)))


def _ended(tracking: Tracking, status: str) -> "Iterator[Run]":
    """Yields the runs with this status that are not trials, the newest first."""
    experiments = [tracking.experiment_id] if tracking.experiment_id else []
    options: dict[str, Any] = {"order_by": ["attributes.start_time DESC"], "max_results": 100}
    token: str | None = ""
    while token is not None:
        page = tracking.client().search_runs(
            experiments, f"attributes.status = '{status}'", page_token=token or None, **options
        )
        yield from (run for run in page if "mlflow.parentRunId" not in run.data.tags)
        token = page.token or None


def failed_jobs(address: str, tracking: Tracking | None = None) -> Iterator[FailedWork]:
    """Yields the newest submitted commands whose last job failed or was stopped. Raises UnreachableError.

    The runs of `tracking` decide, beside the log of the job, whether a training that has ended has a run to resume.
    """
    client = job_client(address)
    failed = [job for job in _last_attempts(client.list_jobs()) if job.status in ("FAILED", "STOPPED")]
    for job in failed[:MAX_FAILED]:
        ended = datetime.fromtimestamp((job.end_time or 0) / 1000, UTC).isoformat(timespec="seconds")
        lines = redact(last_log_lines(client, str(job.submission_id), LINES)).splitlines()
        log = [line.rpartition("\r")[2][:MAX_LINE] for line in lines]  # of a progress bar, its last state
        command = _submitted_command(job)
        asked = any("--resume to continue" in line for line in lines)  # other messages advise to omit it
        if command.startswith("train ") and (asked or _has_run(job, tracking)):
            command = resuming(command)
        resume = f"{program('submit')} {command} --address {address}" if command else ""
        yield FailedWork(f"job {job.submission_id}, {job.status.lower()} {ended}", "", log, resume)


def _last_attempts(jobs: "Sequence[JobDetails]") -> "list[JobDetails]":
    """Returns the last job of each command, the newest first. A training and its resumption are one command."""
    submitted = [job for job in jobs if job.submission_id]
    last = {
        _RESUME.sub("", _submitted_command(job) or job.entrypoint): job
        for job in sorted(submitted, key=lambda job: job.start_time or math.inf)
    }
    return sorted(last.values(), key=lambda job: -(job.start_time or math.inf))


def _submitted_command(job: "JobDetails") -> str:
    """Returns the command line of a job after `submit`; an empty string if it is not a command of this project."""
    if command := (job.metadata or {}).get(COMMAND):
        return redact(command)
    found = _PROGRAM.match(job.entrypoint)  # submitted with Ray's own client or by KubeRay
    return redact(job.entrypoint[found.end() :]) if found else ""


def _has_run(job: "JobDetails", tracking: Tracking | None) -> bool:
    """Returns whether this job or an earlier attempt of the same command has created a run."""
    if tracking is None or not tracking.experiment_id or COMMAND not in (job.metadata or {}):
        return False
    attempts = f"tags.{SUBMISSION} LIKE '{str(job.submission_id).rpartition('.')[0]}.%'"
    return bool(tracking.client().search_runs([tracking.experiment_id], attempts, max_results=1))


def rank_logs(tags: dict[str, Any]) -> list[tuple[int, str]]:
    """Returns rank and place (`node:path`) of the logs that the tags of a run name."""
    ranks = {name.removeprefix(RANK_LOG): place for name, place in tags.items() if name.startswith(RANK_LOG)}
    return sorted((int(rank), str(place)) for rank, place in ranks.items() if rank.isdigit())


def resuming(command: str) -> str:
    """Returns the command that resumes work which has a run: the same, and of a training with `--resume`."""
    name = _PROGRAM.sub("", command, count=1)
    return f"{command} --resume" if name.startswith("train ") and not _RESUME.search(command) else command


def _of(title: str, failure: Failure) -> FailedWork:
    return FailedWork(title, failure.error, failure.log, failure.command)
