"""infra/ray_jobs.py."""

import asyncio
import json
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import UserError
from infra.redaction import redact

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient


ROOT = Path(__file__).parent.parent


PACKED = ("infra", "jobs", "pipelines", "shan_model")


CODE = (".cpp", ".css", ".py", ".safetensors", ".yaml")
"""Endings of the files that are packed: nothing else of the packages' folders, as an .env or somebody's data."""


UNREACHABLE, STOPPED = 3, 4


PATIENCE_S = 300.0
"""How long a cluster that was there may be away."""


AGAIN_S = 1.0


ANSWER_S, SILENCE_S = 60.0, 60.0
"""How long an answer, and the next piece of a log, may take before another connection is tried."""


class UnreachableError(UserError):
    """The cluster does not answer, or takes no orders from us; the message names it and the fix."""


def submit(client: "JobSubmissionClient", job: str, arguments: list[str]) -> str:
    """The submission of this command line with this code: a running one, or else a new one. Its id."""
    for argument in arguments:
        _refuse_secrets(argument, "the command line")
    with _packed() as folder:
        arguments = _with_config_files(arguments, folder)
        stem = f"{job}-{_digest(folder, job, arguments)}"
        runtime = {"working_dir": str(folder), "env_vars": _source_tags()}
        entrypoint = shlex.join(["python", "-m", f"jobs.{job}", *arguments])
        while True:
            attempts = {int(number): each for each in client.list_jobs() if (number := _attempt(each, stem))}
            running = [number for number, each in attempts.items() if not each.status.is_terminal()]
            if running:
                print(f"{stem}.{running[0]} runs already; following it", file=sys.stderr)
                return f"{stem}.{running[0]}"
            name = f"{stem}.{max(attempts, default=0) + 1}"
            try:
                return str(client.submit_job(entrypoint=entrypoint, submission_id=name, runtime_env=runtime))
            except RuntimeError as error:
                if "already exists" in str(error):  # the same command, submitted by somebody at the same moment
                    continue
                raise UnreachableError(
                    f"the cluster did not take the job ({_line(error)}); mend that and try again"
                ) from error


def _refuse_secrets(text: str, where: str) -> None:
    if redact(text) != text:
        raise UserError(
            f"{where} holds a user or password in a URI, which everybody on the cluster could read; set it as a "
            "variable on the cluster's nodes (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)"
        )


def _attempt(job: "JobDetails", stem: str) -> str:
    """The number of an attempt at the command line of this stem; empty if it is another one."""
    name, _, number = (job.submission_id or "").rpartition(".")
    return number if name == stem and number.isdigit() else ""


def follow(client: "JobSubmissionClient", submission: str) -> int:
    """Prints the log, each line once, until the job has ended and all is printed; the exit code for our own process."""
    log, away_since = _Log(client, submission), time.monotonic()
    while True:
        shown = log.shown
        try:
            ended = client.get_job_info(submission).status.is_terminal()
            whole = asyncio.run(log.print_on())
            if ended and whole:
                return outcome(client.get_job_info(submission))
            away_since = time.monotonic()
        except BrokenPipeError:  # whoever read our output has gone, not the cluster
            raise
        except _away() as error:
            if log.shown > shown:
                away_since = time.monotonic()
            if time.monotonic() - away_since > PATIENCE_S:
                raise UnreachableError(
                    f"the cluster does not answer any more ({_line(error)}); `logs {submission}` follows the job again"
                ) from error
        time.sleep(AGAIN_S)


class _Log:
    """A job's log as far as it was printed. Every stream of it begins at its beginning."""

    def __init__(self, client: "JobSubmissionClient", submission: str) -> None:
        self._client, self._submission = client, submission
        self.shown = 0
        """Characters that were printed."""

    async def print_on(self) -> bool:
        """Prints what is new; whether the stream came to its end. It is left where nothing comes for a while: a
        connection that the network forgot looks like that."""
        stream, seen = self._client.tail_job_logs(self._submission), 0
        while True:
            try:
                text = await asyncio.wait_for(anext(stream), SILENCE_S)
            except StopAsyncIteration:
                return True
            except TimeoutError:
                return False
            print(text[max(0, self.shown - seen) :], end="", flush=True)
            seen += len(text)
            self.shown = max(self.shown, seen)


def outcome(details: "JobDetails") -> int:
    """Says how a job ended; its exit code."""
    name = f"{details.submission_id} {details.status.lower()}"
    why = str(details.message).partition(", last available logs")[0]  # which were shown already
    print(name if details.status == "SUCCEEDED" else f"{name}: {why}", file=sys.stderr)
    if details.status == "STOPPED":
        return STOPPED
    code = (details.driver_exit_code or 1) if details.status == "FAILED" else 0
    return code if code >= 0 else 128 - code  # of a killed process, as shells tell it


@contextmanager
def _packed() -> Iterator[Path]:
    """A folder with the project's code alone: no data, no .git, nothing that runs have left."""
    with tempfile.TemporaryDirectory(prefix="shan-submit-") as name:
        for package in PACKED:
            shutil.copytree(ROOT / package, Path(name, package), ignore=_no_code)
        yield Path(name)


def _no_code(folder: str, names: list[str]) -> list[str]:
    paths = [Path(folder, name) for name in names]
    return [p.name for p in paths if p.name == "__pycache__" or (not p.is_dir() and p.suffix not in CODE)]


def _with_config_files(arguments: list[str], folder: Path) -> list[str]:
    """The command line as it is on the cluster, where each file of `--config` lies beside the code."""
    found, rest = [], iter(arguments)
    for number, argument in enumerate(rest):
        option, _, value = argument.partition("=")
        if option == "--config":
            path = Path(value or next(rest, ""))
            if not path.is_file():
                raise UserError(f"--config {path} is no file here; name one")
            argument = f"--config=config-{number}.yaml"
            shutil.copyfile(path, folder / f"config-{number}.yaml")
            _refuse_secrets(path.read_text(encoding="utf-8", errors="replace"), str(path))
        found.append(argument)
    return found


def _digest(folder: Path, job: str, arguments: list[str]) -> str:
    digest = sha256("\0".join([job, *arguments]).encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _source_tags() -> dict[str, str]:
    """The git commit, which runs note down: MLflow takes tags from this variable where there is no .git."""
    from mlflow.tracking.context.git_context import GitRunContext

    return {"MLFLOW_RUN_CONTEXT": json.dumps(tags)} if (tags := GitRunContext().tags()) else {}


@contextmanager
def cluster(address: str) -> Iterator["JobSubmissionClient"]:
    """A client of the cluster's job API. UnreachableError where nobody answers, there and then or later, or refuses."""
    try:
        yield _client(address)
    except BrokenPipeError:  # of our own output
        raise
    except _away() as error:
        raise UnreachableError(
            f"no Ray cluster takes orders at {address} ({_line(error)}); give --address as http://<head>:8265, and "
            "RAY_AUTH_MODE=token with RAY_AUTH_TOKEN if it asks for a token"
        ) from error


def _client(address: str) -> "JobSubmissionClient":
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        """Ray's own waits for ever where the network has forgotten a connection."""

        def _do_request(self, *arguments: Any, **options: Any) -> Any:
            return super()._do_request(*arguments, timeout=ANSWER_S, **options)

    try:
        return Client(address)
    except ValueError as error:
        raise UserError(f"--address {address} is no address ({_line(error)}); give http://<head>:8265") from error


def _away() -> tuple[type[Exception], ...]:
    """What Ray's client raises when the cluster does not answer, or with an error."""
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError

    return (
        AuthenticationError,
        RuntimeError,
        ConnectionError,
        TimeoutError,
        requests.RequestException,
        aiohttp.ClientError,
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def details_of(client: "JobSubmissionClient", submission: str) -> "JobDetails":
    """The job of that submission id. UserError if the cluster has none."""
    found = [each for each in client.list_jobs() if each.submission_id == submission]
    if not found:
        raise UserError(f"the cluster knows no job {submission}; `python -m jobs.submit status` lists those it knows")
    return found[0]


def listing(client: "JobSubmissionClient") -> str:
    """One line per submitted job, oldest first."""
    jobs = sorted((each for each in client.list_jobs() if each.submission_id), key=lambda each: each.start_time or 0)
    rows = [f"{each.submission_id}  {each.status.lower():9}  {redact(each.entrypoint)}" for each in jobs]
    return "\n".join(rows) or "no job was submitted to this cluster"
