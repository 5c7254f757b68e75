"""Encodes the photos and captions of feature sets with a model into a search index; verifies and cleans up indexes.

python -m jobs.index --model models:/shan-flickr30k@champion --features URI --index.output s3://bucket/indexes
python -m jobs.index verify s3://bucket/indexes/flickr30k-0123456789ab
python -m jobs.index gc s3://bucket/indexes/flickr30k-0123456789ab --delete
"""

import sys
from typing import Any

from infra.signals import when_interrupted
from jobs import cli, options
from pipelines.search.index_commands import (
    clean_up_index,
    index_features,
    verification_text,
    verify_index_with_progress_bar,
)


def _arguments(parser: Any) -> None:
    options.add(parser, "--model", required=True)
    options.add(parser, "--features", "Several form one gallery.", nargs="+", required=True)


def _add_verify(parser: Any) -> None:
    options.add(parser, "index", "Append @<12 hex> to open a snapshot.")


def _add_gc(parser: Any) -> None:
    options.add(parser, "index", "No job may write to it meanwhile.")
    for name in ("--delete", "--unfinished", "--earlier-snapshots"):
        options.add(parser, name)


def _verify(arguments: Any) -> None:
    """Exits with code 1 if there is an integrity error."""
    found = verify_index_with_progress_bar(arguments.index)
    print(verification_text(found))
    if found.errors:
        sys.exit(1)


def _gc(arguments: Any) -> None:
    print(clean_up_index(arguments.index, arguments.delete, arguments.unfinished, arguments.earlier_snapshots))


COMMANDS = {
    "verify": cli.Subcommand("Reads every object of a search index and checks its integrity.", _add_verify, _verify),
    "gc": cli.Subcommand("Lists or deletes the orphaned objects of a search index.", _add_gc, _gc),
}


def main() -> None:
    """Runs the command line. Without the name of a subcommand, an index is built."""
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        name, *argv = sys.argv[1:]
        command = COMMANDS[name]
        arguments, _ = cli.parse(f"index {name}", command.description, command.add_arguments, (), argv)
        command.run(arguments)
        return
    description = "Build or extend a search index. `verify` checks the integrity of one, `gc` removes orphaned objects."
    sections = ("index", "tracking", "cluster")
    arguments, config = cli.parse("index", description, _arguments, sections, subcommands=tuple(COMMANDS))
    with when_interrupted("complete partitions are kept, re-run the same command to resume"):
        print(index_features(arguments.model, arguments.features, config.index, config.tracking, config.cluster))


if __name__ == "__main__":
    cli.run(main)
