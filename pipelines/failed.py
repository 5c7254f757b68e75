"""What `jobs.status` shows of work that failed: its error, the last lines of its log, and the command to resume it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from infra.errors import StorageError, UserError
from infra.failures import MAX_LINE, OBJECT, TAG, Failure
from infra.ray_jobs import job_client, last_log_lines
from infra.redaction import redact
from infra.source_tree import program
from infra.storage.base import Store
from infra.tracking import RANK_LOG, Tracking

LINES = 10
"""Lines of a log that are shown."""
MAX_FAILED = 20
"""Number of failed runs and of failed jobs that are shown, the newest ones."""
_TRAIN = re.compile(r"(python -m jobs\.|shan )train ")


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
    experiments = [tracking.experiment_id] if tracking.experiment_id else []
    statuses = "attributes.status = 'FAILED'", "attributes.status = 'KILLED'"
    newest = {"order_by": ["attributes.start_time DESC"], "max_results": MAX_FAILED}
    found = [run for status in statuses for run in tracking.client().search_runs(experiments, status, **newest)]
    for run in sorted(found, key=lambda run: -run.info.start_time)[:MAX_FAILED]:
        tags = run.data.tags
        if "mlflow.parentRunId" in tags:
            continue
        title = f"run {run.info.run_id} ({run.info.run_name}), {run.info.status.lower()}"
        try:
            failed = _of(title, Failure.parse(tags[TAG].encode()))
        except (KeyError, ValueError):  # of an earlier release, or the store was unreachable
            failed = FailedWork(title, "no error is recorded", [], "")
        yield replace(failed, places=tuple(f"log of rank {rank}: {place}" for rank, place in rank_logs(tags)))


def failed_jobs(address: str) -> Iterator[FailedWork]:
    """Yields the newest submitted jobs of a cluster that failed. Raises UnreachableError."""
    client = job_client(address)
    jobs = [job for job in client.list_jobs() if job.submission_id and job.status == "FAILED"]
    for job in sorted(jobs, key=lambda job: -(job.start_time or 0))[:MAX_FAILED]:
        ended = datetime.fromtimestamp((job.end_time or 0) / 1000, UTC).isoformat(timespec="seconds")
        lines = redact(last_log_lines(client, str(job.submission_id), LINES)).splitlines()
        log = [line.rpartition("\r")[2][:MAX_LINE] for line in lines]  # of a progress bar, its last state
        command = redact(job.entrypoint)
        resume = f"{program('submit')} {resuming(command).removeprefix('python -m jobs.')} --address {address}"
        yield FailedWork(f"job {job.submission_id}, failed {ended}", "", log, resume)


def rank_logs(tags: dict[str, Any]) -> list[tuple[int, str]]:
    """Returns rank and place (`node:path`) of the logs that the tags of a run name."""
    ranks = {name.removeprefix(RANK_LOG): place for name, place in tags.items() if name.startswith(RANK_LOG)}
    return sorted((int(rank), str(place)) for rank, place in ranks.items() if rank.isdigit())


def resuming(command: str) -> str:
    """Returns the command that resumes what a command began: the same, and of a training with `--resume`."""
    return f"{command} --resume" if _TRAIN.match(command) and "--resume" not in command.split() else command


def _of(title: str, failure: Failure) -> FailedWork:
    return FailedWork(title, failure.error, failure.log, resuming(failure.command))
