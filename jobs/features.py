"""Verifies, inspects, cleans up, imports and exports feature sets.

python -m jobs.features verify s3://bucket/features/flickr30k-embedded-0123456789ab
"""

import sys
from pathlib import Path
from typing import Any

from infra.errors import UserError
from infra.signals import when_interrupted
from infra.source_tree import program
from jobs import cli, options
from pipelines.features.commands import (
    clean_up,
    export_features,
    import_features,
    inspect_features,
    verify_with_progress_bar,
)
from pipelines.features.text_report import verify_text


def _add_features(parser: Any) -> None:
    options.add(parser, "features", "Append @<12 hex> to open a snapshot.")


def _add_inspect(parser: Any) -> None:
    _add_features(parser)
    options.add(parser, "--page", default=Path("build/features.html"))


def _add_gc(parser: Any) -> None:
    options.add(parser, "features", "No job may write to it meanwhile.")
    for name in ("--delete", "--unfinished", "--earlier-snapshots"):
        options.add(parser, name)


def _add_import(parser: Any) -> None:
    options.add(parser, "path", "With tsv, also a single file.")
    options.add(parser, "--feature-format", required=True)
    options.add(parser, "--feature-root")
    options.add_dataset(parser, required=False, photos=False)
    parser.add_argument(
        "--dataset-name",
        type=str,
        default=None,
        help="Name of the data set of a SCAN folder. Defaults to the name of the folder.",
    )
    parser.add_argument("--photos-per-shard", type=int, default=32, help="Number of photos per shard.")


def _add_export(parser: Any) -> None:
    _add_features(parser)
    options.add(parser, "path", "It is created.")
    options.add(parser, "--feature-format", "TSV supports photos with different numbers of regions.", default="scan")


def _verify(arguments: Any) -> None:
    """Exits with code 1 if there is an integrity error."""
    found = verify_with_progress_bar(arguments.features)
    print(verify_text(found))
    if found.errors:
        sys.exit(1)


def _inspect(arguments: Any) -> None:
    print(inspect_features(arguments.features, arguments.page))


def _gc(arguments: Any) -> None:
    print(clean_up(arguments.features, arguments.delete, arguments.unfinished, arguments.earlier_snapshots))


def _import(arguments: Any) -> None:
    dataset, name = options.dataset_files(arguments), arguments.dataset_name
    root, per_shard = arguments.feature_root, arguments.photos_per_shard
    with when_interrupted("completed shards are kept, re-run the same command to resume"):
        print(import_features(arguments.feature_format, arguments.path, root, dataset, name, per_shard))


def _export(arguments: Any) -> None:
    print(export_features(arguments.features, arguments.path, arguments.feature_format))


COMMANDS = {
    "verify": cli.Subcommand("Reads every object of a feature set and checks its integrity.", _add_features, _verify),
    "inspect": cli.Subcommand(
        "Prints the content of a feature set and writes it as an HTML page.", _add_inspect, _inspect
    ),
    "gc": cli.Subcommand("Lists or deletes the orphaned objects of a feature set.", _add_gc, _gc),
    "import": cli.Subcommand("Imports features that other code extracted.", _add_import, _import),
    "export": cli.Subcommand("Exports a feature set to files that other code reads.", _add_export, _export),
}


def main() -> None:
    """Runs the command line."""
    name, *argv = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(f"usage: {program('features')} COMMAND [--help] ...\n")
        print("\n".join(f"  {known:8} {command.description}" for known, command in COMMANDS.items()))
        return
    if name not in COMMANDS:
        raise UserError(f"unknown command '{name}' of {program('features')}; choose one of {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    arguments, _ = cli.parse(f"features {name}", command.description, command.add_arguments, (), argv)
    command.run(arguments)


if __name__ == "__main__":
    cli.run(main)
