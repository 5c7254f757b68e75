"""Runs a command on a Ray cluster: submits it through Ray's job API and follows its log.

    python -m jobs.submit train --features s3://b/features/x --name m --address http://head:8265
    python -m jobs.submit status [SUBMISSION] --address http://head:8265
    python -m jobs.submit logs train-0123456789ab.1 --address http://head:8265
    python -m jobs.submit stop train-0123456789ab.1 --address http://head:8265

Every command except `quickstart` and `status` can be submitted, with the arguments that it takes on this machine.
--help after a command shows them. If the same command with the same code is already running, `submit` attaches to it,
so a lost connection or terminal loses nothing. The exit code is that of the job, 3 if the cluster is unreachable or
rejects requests, or 4 if the job was stopped. For token authentication set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN.
With `--log-format json`, the submitted job logs JSON, too.
"""

import argparse
import logging
import sys
from typing import TYPE_CHECKING, NoReturn

from infra.errors import UserError
from infra.job_log import follow
from infra.log import configure, log
from infra.ray_jobs import UnreachableError, job_client, job_details, job_lines, submit
from infra.redaction import redact
from infra.signals import when_interrupted
from infra.source_tree import program
from jobs import cli, options
from jobs.messages import plain_error

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

COMMANDS = (
    "behaviour",
    "evaluate",
    "extract",
    "features",
    "index",
    "lineage",
    "pipeline",
    "promote",
    "reproduce",
    "rerank",
    "search",
    "serve",
    "sweep",
    "train",
)
"""Commands that can be submitted."""
ACTIONS = ("status", "logs", "stop")
"""What can be done with submitted jobs."""
UNREACHABLE = 3
"""Exit code if the cluster is unreachable or rejects requests."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{plain_error(message, self)}; see `{self.prog} --help`")


def _parse() -> tuple[argparse.Namespace, list[str]]:
    parser = _Parser(
        prog=program("submit"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s {" + ",".join((*COMMANDS, *ACTIONS)) + "} ... [--address URL] [--detach]",
    )
    help_ = "Command to submit, or action on submitted jobs."
    parser.add_argument("job", choices=(*COMMANDS, *ACTIONS), metavar="COMMAND", help=help_)
    options.add(parser, "--address", "Defaults to %(default)s.", default="http://127.0.0.1:8265")
    parser.add_argument(
        "--detach", action="store_true", help="Print the submission id and exit without following the log."
    )
    cli.add_log_format(parser)
    known, rest = parser.parse_known_args()
    if known.job in COMMANDS and known.log_format == "json":
        rest.insert(rest.index("--") if "--" in rest else len(rest), f"{cli.LOG_FORMAT}=json")
    if known.job in ACTIONS and len(rest) != 1 and (known.job != "status" or rest):
        raise UserError(
            f"`{known.job}` takes one submission id, not '{' '.join(rest)}'; `{program('submit')} status` lists them"
        )
    return known, rest


def _run(client: "JobSubmissionClient", known: argparse.Namespace, rest: list[str]) -> int:
    """Submits the command or performs the action; returns the exit code."""
    if known.job in COMMANDS:
        submission = submit(client, known.job, rest)
        if known.detach:
            print(submission)
            return 0
        log.info(submission, extra={"event": "job_submitted", "submission": submission})
        return _follow(client, submission)
    if known.job == "status" and not rest:
        print(job_lines(client))
        return 0
    details = job_details(client, rest[0])
    if known.job == "status":
        print(f"{details.submission_id}  {details.status.lower()}  {redact(details.entrypoint)}")
        return 0
    if known.job == "stop":
        if not details.status.is_terminal():
            client.stop_job(rest[0])
        return 0
    return _follow(client, rest[0])


def _follow(client: "JobSubmissionClient", submission: str) -> int:
    again = f"`{program('submit')} logs {submission}` follows it again"
    with when_interrupted(f"the job continues on the cluster; {again}"):
        return follow(client, submission)


def _quiet_client() -> None:
    """Hides the messages of Ray's client about every package and connection."""
    import ray  # noqa: F401 - it sets the level when it is imported

    logging.getLogger("ray").setLevel(logging.WARNING)


def main() -> None:
    """Runs the command line."""
    configure(cli.log_format(sys.argv[1:]), "submit")
    known, rest = _parse()
    _quiet_client()
    try:
        code = _run(job_client(known.address), known, rest)
    except UnreachableError as error:
        log.error(str(error), extra={"event": "job_failed", "exit_code": UNREACHABLE})
        code = UNREACHABLE
    sys.exit(code)


if __name__ == "__main__":
    cli.run(main)
