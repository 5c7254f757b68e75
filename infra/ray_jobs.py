"""Submits this project's commands to a Ray cluster through Ray's job API, and lists the submitted jobs.

A submission id is `<command>-<digest>.<attempt>`, where the digest covers the command line and the code. The same
command therefore attaches to its running job instead of submitting a second one.
"""

import json
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from infra.errors import UserError
from infra.job_package import absolute_config_files, add_config_files, package_digest, packed_code, refuse_secrets
from infra.log import log
from infra.redaction import redact
from infra.source_tree import COMMAND_VARIABLE, program
from infra.tracking import SUBMISSION_VARIABLE

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

COMMAND = "command"
"""Key of a job's metadata: the user's command line after `submit`, with the paths of config files on their machine."""
RESPONSE_TIMEOUT_S = 60.0
"""Seconds that one request to the job API may take."""


class UnreachableError(UserError):
    """The cluster does not respond or rejects requests. The message names its address, the reason and the fix."""


def job_client(address: str) -> "JobSubmissionClient":
    """Returns a client of the job API at `http://<head>:8265`.

    Raises UnreachableError if the cluster is unreachable or rejects requests, now or in a later call of the client, and
    UserError for an address that is not a URL.
    """
    from packaging.version import InvalidVersion
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        """Adds a timeout, without which Ray's own client waits indefinitely on a connection that the network dropped.

        Also raises UnreachableError for the errors of Ray's client, and for a server that is not a Ray dashboard.
        """

        def _do_request(self, *arguments: Any, **options: Any) -> Any:
            response = super()._do_request(*arguments, timeout=RESPONSE_TIMEOUT_S, **options)
            if "html" in response.headers.get("Content-Type", ""):
                raise ConnectionError(f"HTTP {response.status_code} with a web page, such as the login page of a proxy")
            return response

        def _check_connection_and_version(self, *arguments: Any, **options: Any) -> None:
            try:
                super()._check_connection_and_version(*arguments, **options)
            except (json.JSONDecodeError, LookupError, TypeError, InvalidVersion) as error:
                raise ConnectionError("its /api/version does not state a version of Ray") from error

        async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
            with _explained(address):
                async for text in super().tail_job_logs(job_id):
                    yield text

        get_job_info = _explained(address)(JobSubmissionClient.get_job_info)
        list_jobs = _explained(address)(JobSubmissionClient.list_jobs)
        stop_job = _explained(address)(JobSubmissionClient.stop_job)
        submit_job = _explained(address)(JobSubmissionClient.submit_job)

    with _explained(address):
        try:
            return Client(address)
        except ValueError as error:
            raise UserError(
                f"--address {address} is not a URL ({one_line(error)}); give it as http://<head>:8265"
            ) from error


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Raises UnreachableError for the errors of Ray's client. The body calls the client and does nothing else."""
    try:
        yield
    except _client_errors() as error:
        raise UnreachableError(
            f"the Ray cluster at {address} is unreachable or rejects requests ({one_line(error)}); give --address as "
            "http://<head>:8265, and set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN if it requires a token"
        ) from error


def submit(client: "JobSubmissionClient", job: str, arguments: list[str]) -> str:
    """Submits `jobs.<job>` with these arguments and this code, and returns the submission id.

    Returns the id of the running job if the same command with the same code is running already. Raises UserError for
    credentials in the arguments or config files, UnreachableError if the cluster rejects the job.
    """
    for argument in arguments:
        refuse_secrets(argument, "the command line")
    command = shlex.join([job, *absolute_config_files(arguments)])
    with packed_code() as folder:
        arguments = add_config_files(arguments, folder)
        stem = f"{job}-{package_digest(folder, job, arguments)}"
        entrypoint = shlex.join(["python", "-m", f"jobs.{job}", *arguments])
        while True:
            attempts = {int(number): each for each in client.list_jobs() if (number := _attempt(each, stem))}
            running = [number for number, each in attempts.items() if not each.status.is_terminal()]
            if running:
                log.info("%s.%s is running; attaching to it", stem, running[0])
                return f"{stem}.{running[0]}"
            name = f"{stem}.{max(attempts, default=0) + 1}"
            variables = {
                **_source_tags(),
                COMMAND_VARIABLE: _submit_again(command, client.get_address()),
                SUBMISSION_VARIABLE: name,
            }
            runtime_env = {"working_dir": str(folder), "env_vars": variables}
            options = {"runtime_env": runtime_env, "metadata": {COMMAND: command}}
            try:
                return str(client.submit_job(entrypoint=entrypoint, submission_id=name, **options))
            except UnreachableError as error:
                cause = error.__cause__
                if not isinstance(cause, RuntimeError):  # Ray's type for a response with an error
                    raise
                if "already exists" in str(cause):  # another process submitted the same command at the same moment
                    continue
                raise UnreachableError(
                    f"the cluster rejected the job ({one_line(cause)}); fix the cause and submit it again"
                ) from error


def _submit_again(command: str, address: str) -> str:
    """Returns the command line that submits a job again, without the password of the address: the cluster shows it."""
    return f"{program('submit')} {command} --address {redact(address)}"


def job_details(client: "JobSubmissionClient", submission: str) -> "JobDetails":
    """Returns the job with this submission id. Raises UserError if the cluster has none."""
    found = [each for each in client.list_jobs() if each.submission_id == submission]
    if not found:
        raise UserError(f"the cluster has no job {submission}; `{program('submit')} status` lists the jobs it has")
    return found[0]


def job_lines(client: "JobSubmissionClient") -> str:
    """Returns a line for each submitted job, the oldest first."""
    jobs = sorted((each for each in client.list_jobs() if each.submission_id), key=lambda each: each.start_time or 0)
    rows = [f"{each.submission_id}  {each.status.lower():9}  {redact(each.entrypoint)}" for each in jobs]
    return "\n".join(rows) or "no job was submitted to this cluster"


def last_log_lines(client: "JobSubmissionClient", submission: str, lines: int) -> str:
    """Returns the end of a job's log; an empty string if Ray does not serve it, as before the job has started."""
    if not (node := client.get_job_info(submission).driver_node_id):
        return ""
    query = f"submission_id={submission}&node_id={node}&lines={lines}"
    with _explained(client.get_address()):
        response = client._do_request("GET", f"/api/v0/logs/file?{query}")  # noqa: SLF001
    return str(response.text) if response.ok else ""


def _client_errors() -> tuple[type[Exception], ...]:
    """Returns the exceptions that Ray's client raises if the cluster does not respond, or responds with an error."""
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


def one_line(error: BaseException) -> str:
    """Returns the first 200 characters of an error's message, on one line."""
    return " ".join(str(error).split())[:200]


def _attempt(job: "JobDetails", stem: str) -> str:
    """Returns the attempt number of a job with this stem, or an empty string for any other job."""
    name, _, number = (job.submission_id or "").rpartition(".")
    return number if name == stem and number.isdigit() else ""


def _source_tags() -> dict[str, str]:
    """Returns the git commit as the environment variable from which MLflow takes tags where there is no .git."""
    from mlflow.tracking.context.git_context import GitRunContext

    return {"MLFLOW_RUN_CONTEXT": json.dumps(tags)} if (tags := GitRunContext().tags()) else {}
