"""Promotes a registered version to champion if it meets the promotion criterion, or rolls the alias back.

    python -m jobs.promote --name shan-flickr30k --version 7 --features URI [--dry-run]
    python -m jobs.promote --name shan-flickr30k --version 8 --features URI --champion-features URI
    python -m jobs.promote --name shan-flickr30k --rollback "wrong results for night photos"

Challenger and champion are evaluated by the same code on the same photos of split `promote.split`: of one feature set,
or each of the feature set of its own detector.
"""

from typing import Any

import infra.tracking
from infra.errors import UserError
from infra.registry_lock import free_lock
from jobs import cli, options
from jobs.config import Config
from pipelines.evaluation.comparison import ComparisonData, require_features_of_champion
from pipelines.evaluation.promote import promote, rollback
from pipelines.evaluation.score import driver_device
from pipelines.features.feature_set import FeatureSet


def _arguments(parser: Any) -> None:
    options.add(parser, "--name")
    parser.add_argument("--version", type=int, default=None, help="Version of the challenger.")
    options.add(parser, "--features", "Challenger and champion are compared on it.")
    options.add(parser, "--champion-features")
    options.add(parser, "--intersect")
    options.add(parser, "--device")
    options.add(parser, "--dry-run")
    parser.add_argument(
        "--rollback",
        type=str,
        default=None,
        metavar="REASON",
        help="Move the alias back to the previous champion, and record this reason.",
    )
    parser.add_argument("--unlock", action="store_true", help="Release the lock of a promotion that was killed.")


def _run(arguments: Any, config: Config) -> str:
    """Promotes, rolls back or unlocks; returns the line to print."""
    name, challenger = arguments.name, arguments.version
    actions = [challenger is not None, arguments.rollback is not None, arguments.unlock]
    if sum(actions) != 1 or (challenger is None) != (arguments.features is None):
        raise UserError("give exactly one of: --version with --features, --rollback REASON, --unlock")
    if arguments.unlock and arguments.dry_run:
        raise UserError("--dry-run has no effect with --unlock; omit one of them")
    unused = {
        "--device": arguments.device != "auto",
        "--champion-features": arguments.champion_features is not None,
        "--intersect": arguments.intersect,
    }
    if challenger is None and any(unused.values()):
        option = next(option for option, given in unused.items() if given)
        raise UserError(f"{option} has no effect with --rollback and --unlock; omit it")
    if challenger is None:
        options.warn_without_effect(arguments, {"promote", "score", "cluster"}, "with --rollback and --unlock")
    if config.score.cache_file:
        raise UserError(f"score.cache_file is {config.score.cache_file}, but a promotion scores two models; omit it")
    device = driver_device(arguments.device, config.score)
    data = _comparison_data(arguments) if challenger is not None else None
    tracking = infra.tracking.require_store(config.tracking)
    if arguments.unlock:
        holder = free_lock(tracking, name)
        return f"models:/{name}: {f'released the lock of {holder}' if holder else 'the lock is not held'}"
    if data is not None and data.champion_features is not None:
        require_features_of_champion(tracking, name, data.champion_features)
    if data is None:
        state = rollback(tracking, name, arguments.rollback, arguments.dry_run)
    else:
        state = promote(
            tracking,
            name,
            challenger,
            data,
            config.promote,
            config.score,
            config.cluster,
            dry_run=arguments.dry_run,
            device=device,
        )
    return f"dry run, nothing written; without --dry-run: {state}" if arguments.dry_run else str(state)


def _comparison_data(arguments: Any) -> ComparisonData:
    """Opens the feature sets that the options name."""
    features, of_champion = arguments.features, arguments.champion_features
    champion_features = FeatureSet.open(of_champion) if of_champion is not None else None
    return ComparisonData(FeatureSet.open(features), champion_features, arguments.intersect)


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "promote",
        "Make a version champion if it is better, or roll back.",
        _arguments,
        ("promote", "score", "tracking", "cluster"),
    )
    print(_run(arguments, config))


if __name__ == "__main__":
    cli.run(main)
