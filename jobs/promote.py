"""Moves the alias `champion` to a candidate version if it is better than the present champion, or back again.

    python -m jobs.promote --name shan-flickr30k --version 7 --features URI [--dry-run]
    python -m jobs.promote --name shan-flickr30k --rollback "wrong answers on night photos"

Both are evaluated again, by the same code, on the validation split of one feature set; the test split stays unseen.
"""

from typing import Any

import infra.tracking
from infra.errors import UserError
from infra.registry_lock import free_lock
from jobs import cli
from jobs.config import Config
from pipelines.evaluation.promote import promote, rollback
from pipelines.features.feature_set import FeatureSet


def _arguments(parser: Any) -> None:
    parser.add_argument("--name", type=str, required=True, help="registered model")
    parser.add_argument("--version", type=int | None, default=None, help="candidate version")
    parser.add_argument("--features", type=str | None, default=None, help="URI of the feature set to compare on")
    parser.add_argument("--dry-run", action="store_true", help="decide, but write nothing")
    parser.add_argument(
        "--rollback", type=str | None, default=None, metavar="REASON", help="give the alias back to the champion before"
    )
    parser.add_argument("--unlock", action="store_true", help="free the lock that a killed promotion left")


def _run(arguments: Any, config: Config) -> str:
    """One of promote, roll back, unlock; what came of it."""
    name, candidate = arguments.name, arguments.version
    asked = [candidate is not None, arguments.rollback is not None, arguments.unlock]
    if sum(asked) != 1 or (candidate is None) != (arguments.features is None):
        raise UserError("give --version with --features to promote, or --rollback REASON, or --unlock")
    features = FeatureSet.open(arguments.features) if arguments.features is not None else None
    tracking = infra.tracking.connect(config.tracking)
    if arguments.unlock:
        held = free_lock(tracking, name)
        return f"models:/{name}: {f'freed the lock of {held}' if held else 'nobody holds the lock'}"
    if features is None:
        decision = rollback(tracking, name, arguments.rollback, arguments.dry_run)
    else:
        decision = promote(
            tracking, name, candidate, features, config.promote, config.score, config.cluster, arguments.dry_run
        )
    return f"dry run, nothing written; otherwise {decision}" if arguments.dry_run else str(decision)


def main() -> None:
    """Command line."""
    arguments, config = cli.parse(
        "promote",
        "A candidate version to champion, if it is better.",
        _arguments,
        ("promote", "score", "tracking", "cluster"),
    )
    print(_run(arguments, config))


if __name__ == "__main__":
    cli.run(main)
