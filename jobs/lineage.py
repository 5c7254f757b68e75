"""Prints where a version, run, feature set or search index comes from, and checks every link that can be reached.

    python -m jobs.lineage models:/shan-flickr30k@champion
    python -m jobs.lineage s3://bucket/features/flickr30k-embedded-0123456789ab --json

The exit code is 1 if a link is broken. Links that cannot be checked from here are listed as such.
"""

import json
import sys
from typing import Any

from jobs import cli, options
from pipelines.lineage.trace import URI_HELP, trace


def _arguments(parser: Any) -> None:
    parser.add_argument("uri", type=str, metavar="URI", help=URI_HELP)
    options.add(parser, "--json")


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "lineage", "Print where a model, run, feature set or index comes from, and check it.", _arguments, ("tracking",)
    )
    found = trace(arguments.uri, config.tracking)
    print(json.dumps(found.document(), indent=2) if arguments.json else found.text())
    if found.is_broken:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
