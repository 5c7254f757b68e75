"""Follows the log of a submitted job over connections that break, up to the job's exit code."""

import asyncio
import time
from typing import TYPE_CHECKING

from infra.log import log
from infra.ray_jobs import UnreachableError, last_log_lines, one_line

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

STOPPED = 4
"""Exit code for a job that was stopped."""
RECONNECT_DEADLINE_S = 300.0
"""Seconds for which the cluster may be unreachable before following ends with an error."""
POLL_S = 1.0
"""Seconds between two connections."""
IDLE_TIMEOUT_S = 60.0
"""Seconds without a new line after which the cluster is asked for the log's last line: the connection may have been
dropped without notice."""
_COMPARED_CHARS = 1000
"""Characters of the last line that are compared with what was printed: a progress bar is one long line."""


def follow(client: "JobSubmissionClient", submission: str) -> int:
    """Prints the log, each line once, until the job has ended and its log is complete. Returns its `exit_code`.

    Raises UnreachableError if the cluster does not respond for RECONNECT_DEADLINE_S.
    """
    printed_log, last_response = _Log(client, submission), time.monotonic()
    while True:
        printed = printed_log.printed
        try:
            ended = client.get_job_info(submission).status.is_terminal()
            complete = asyncio.run(printed_log.print_new())
            if ended and complete:
                return report_end(client.get_job_info(submission))
            last_response = time.monotonic()
        except UnreachableError as error:
            if printed_log.printed > printed:
                last_response = time.monotonic()
            if time.monotonic() - last_response > RECONNECT_DEADLINE_S:
                raise UnreachableError(
                    f"the cluster does not respond any more ({one_line(error.__cause__ or error)}); "
                    f"`logs {submission}` follows the job again"
                ) from error
        time.sleep(POLL_S)


class _Log:
    """A job's log and how much of it was printed. Every stream starts at the beginning of the log."""

    def __init__(self, client: "JobSubmissionClient", submission: str) -> None:
        self._client, self._submission = client, submission
        self.printed = 0
        """Characters that were printed."""
        self._end = ""
        """The last of them."""

    async def print_new(self) -> bool:
        """Prints what is new. Returns whether the stream ended; False if another stream is needed for the rest."""
        stream, seen = self._client.tail_job_logs(self._submission), 0
        while True:
            chunk = asyncio.ensure_future(anext(stream))
            while not (await asyncio.wait({chunk}, timeout=IDLE_TIMEOUT_S))[0]:
                if not self._is_waiting():
                    chunk.cancel()
                    return False
            try:
                text = chunk.result()
            except StopAsyncIteration:
                return True
            new = text[max(0, self.printed - seen) :]
            print(new, end="", flush=True)
            seen += len(text)
            self.printed, self._end = max(self.printed, seen), (self._end + new)[-2 * _COMPARED_CHARS :]

    def _is_waiting(self) -> bool:
        """Returns whether the job runs and its log has no line that was not printed."""
        if self._client.get_job_info(self._submission).status.is_terminal():
            return False
        # Without white space, because Ray changes line breaks where it streams a log.
        last, printed = (
            "".join(text.split()) for text in (last_log_lines(self._client, self._submission, 1), self._end)
        )
        return bool(last) and printed.endswith(last[-_COMPARED_CHARS:])


def report_end(details: "JobDetails") -> int:
    """Logs how a job ended and returns its exit code: its own, 128 + the signal that killed it, or STOPPED."""
    name = f"{details.submission_id} {details.status.lower()}"
    reason = str(details.message).partition(", last available logs")[0]  # the log was printed already
    code = _exit_code(details)
    fields = {"event": "submission_ended", "submission": details.submission_id, "exit_code": code}
    log.info(name if details.status == "SUCCEEDED" else f"{name}: {reason}", extra=fields)
    return code


def _exit_code(details: "JobDetails") -> int:
    if details.status == "STOPPED":
        return STOPPED
    code = (details.driver_exit_code or 1) if details.status == "FAILED" else 0
    return code if code >= 0 else 128 - code  # as shells report a killed process
