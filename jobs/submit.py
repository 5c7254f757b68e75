"""Any job on a Ray cluster, by Ray's job API: submit and follow it, look at it again, stop it.

    python -m jobs.submit train --features s3://b/features/x --name m --address http://head:8265
    python -m jobs.submit logs train-0123456789ab.1 --address http://head:8265

The command line of a job is the one it has here. The same command attaches to what it submitted before while that runs,
so a lost connection or terminal costs nothing. Exit codes: the job's own; 3 if the cluster cannot be reached, 4 if the
job was stopped. With token authentication, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN.
"""

import argparse
import logging
import sys
from typing import TYPE_CHECKING

from infra.errors import UserError
from infra.ray_jobs import (
    UNREACHABLE,
    UnreachableError,
    cluster,
    details_of,
    follow,
    listing,
    submit,
)
from infra.redaction import redact
from jobs import cli

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

JOBS = ("behaviour", "evaluate", "extract", "features", "promote", "search", "sweep", "train", "two_stage")


def _parse() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.submit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False, usage="%(prog)s {" + ",".join((*JOBS, "status", "logs", "stop")) + "} ... --address URL",
    )  # fmt: skip
    parser.add_argument("job", choices=(*JOBS, "status", "logs", "stop"), help="job, or what to do with one")
    parser.add_argument("--address", default="http://127.0.0.1:8265", help="the head's dashboard (%(default)s)")
    parser.add_argument("--detach", action="store_true", help="submit, print the id, and leave")
    return parser.parse_known_args()


def _ordered(client: "JobSubmissionClient", known: argparse.Namespace, rest: list[str]) -> int:
    if known.job in JOBS:
        submission = submit(client, known.job, rest)
        print(submission, file=sys.stdout if known.detach else sys.stderr, flush=True)
        return 0 if known.detach else follow(client, submission)
    if known.job == "status" and not rest:
        print(listing(client))
        return 0
    if len(rest) != 1:
        raise UserError(f"`{known.job}` takes the id of one submission; `python -m jobs.submit status` lists them")
    details = details_of(client, rest[0])
    if known.job == "status":
        print(f"{details.submission_id}  {details.status.lower()}  {redact(details.entrypoint)}")
        return 0
    if known.job == "stop":
        if not details.status.is_terminal():
            client.stop_job(rest[0])
        return 0
    return follow(client, rest[0])


def main() -> None:
    """Command line."""
    known, rest = _parse()
    logging.disable(logging.INFO)  # Ray's client tells of every package and connection
    try:
        with cluster(known.address) as client:
            code = _ordered(client, known, rest)
    except UnreachableError as error:
        print(f"error: {error}", file=sys.stderr)
        code = UNREACHABLE
    sys.exit(code)


if __name__ == "__main__":
    cli.run(main)
