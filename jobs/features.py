"""Everything done with a finished feature set but training on it.

python -m jobs.features verify s3://bucket/features/flickr30k-embedded-0123456789ab
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from infra.errors import UserError
from infra.storage.open import open_store, require_folder
from jobs import cli, features_precomputed
from jobs.config import Config
from pipelines.features.feature_set import FeatureSet
from pipelines.features.html_report import write_page
from pipelines.features.orphans import find_orphans, remove
from pipelines.features.text_report import inspect_text, orphans_text, verify_text
from pipelines.features.verify import verify


@dataclass(frozen=True)
class Command:
    """A subcommand: what it is for, its arguments, the config sections that it reads, and what it does."""

    description: str
    add_arguments: Callable[[Any], None]
    run: Callable[[Any, Config], None]
    sections: tuple[str, ...] = ()


def _add_uri(parser: Any) -> None:
    parser.add_argument("uri", type=str, help="folder or s3:// prefix of a feature set; URI@<12 hex> is a past index")


def _add_inspect(parser: Any) -> None:
    _add_uri(parser)
    parser.add_argument("--page", type=Path, default=Path("build/features.html"), help="HTML file to write")


def _add_gc(parser: Any) -> None:
    parser.add_argument("uri", type=str, help="folder or s3:// prefix of a feature set at which nobody writes now")
    parser.add_argument("--delete", action="store_true", help="delete what is listed; without it nothing is changed")
    parser.add_argument(
        "--unfinished", action="store_true", help="delete complete shards of extractions never finished, too"
    )
    parser.add_argument(
        "--earlier-snapshots", action="store_true", help="count past indexes, and what only they name, as orphans too"
    )


def _verify(arguments: Any, _: Config) -> None:
    """Exit code 1 if there is a fault."""
    with tqdm(desc="verify", unit="shard", total=0) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = verify(arguments.uri, show)
    print(verify_text(found))
    if found.faults:
        sys.exit(1)


def _inspect(arguments: Any, _: Config) -> None:
    require_folder(arguments.page.parent, "--page")
    features = FeatureSet.open(arguments.uri)
    print(inspect_text(features))
    write_page(arguments.page, features)
    print(f"page: {arguments.page}")


def _gc(arguments: Any, _: Config) -> None:
    store = open_store(arguments.uri)
    orphans = find_orphans(store, arguments.earlier_snapshots)
    print(orphans_text(store.uri, orphans))
    if arguments.delete:
        items = [item for item in orphans.items if arguments.unfinished or item.name not in orphans.work]
        remove(store, items)
        print(f"{len(items)} deleted")
    elif orphans.items:
        print("nothing is deleted; --delete does it")


def _import(arguments: Any, config: Config) -> None:
    features_precomputed.run_import(arguments, config)


def _export(arguments: Any, _: Config) -> None:
    features_precomputed.run_export(arguments)


COMMANDS = {
    "verify": Command("Reads every shard and checks all that is known of it.", _add_uri, _verify),
    "inspect": Command("Prints what a feature set holds and writes it as an HTML page.", _add_inspect, _inspect),
    "gc": Command("Lists, or deletes, what no index of a feature set names.", _add_gc, _gc),
    "import": Command(
        "Makes a feature set of precomputed features.", features_precomputed.add_import_arguments, _import, ("extract",)
    ),
    "export": Command(
        "Writes a feature set in a layout of others.", features_precomputed.add_export_arguments, _export
    ),
}


def main() -> None:
    """Command line."""
    name, *argv = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print("usage: python -m jobs.features COMMAND [--help] ...\n")
        print("\n".join(f"  {known:8} {command.description}" for known, command in COMMANDS.items()))
        return
    if name not in COMMANDS:
        raise UserError(f"unknown command '{name}' of jobs.features; choose one of {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    arguments, config = cli.parse(
        f"features {name}", command.description, command.add_arguments, command.sections, argv
    )
    command.run(arguments, config)


if __name__ == "__main__":
    cli.run(main)
