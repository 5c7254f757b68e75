"""Prints the state of feature sets, search indexes, runs, models and their champions, and of the jobs of a cluster.

    python -m jobs.status --feature-root s3://bucket/features --tracking.uri http://mlflow:5000 \
        --address http://head:8265
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import infra.tracking
from infra.errors import StorageError, UserError
from infra.paths import is_dir, is_file
from infra.storage.base import Store
from infra.storage.folder import FolderStore
from infra.storage.open import open_store
from infra.tracking import TrackingConfig
from jobs import cli, options
from pipelines.failed import failed_folders, failed_jobs, failed_runs
from pipelines.reports.tables import Table
from pipelines.search.config import IndexConfig
from pipelines.search.index_table import index_table
from pipelines.status import cluster_jobs, feature_sets, models, running_logs, trainings


def _arguments(parser: Any) -> None:
    options.add(parser, "--feature-root")
    root = "Root of the search indexes: the folder or s3:// prefix that contains them."
    parser.add_argument("--index-root", type=str, default=IndexConfig.output, metavar="URI", help=root)
    options.add(parser, "--address", "Without it, no jobs are listed.")
    failed = "Show only what failed or was stopped: its error, the last lines of its log, and the resuming command."
    parser.add_argument("--failed", action="store_true", help=failed)


@contextmanager
def _collected(errors: list[str]) -> Iterator[None]:
    """Appends the error of a service to `errors`, since the services after it may respond."""
    try:
        yield
    except (UserError, StorageError) as error:
        errors.append(str(error))


def _show(table: Table, note: str = "") -> None:
    print(table.markdown() if table.rows else f"**{table.title}**: none{note}", end="\n\n", flush=True)


def _show_root(option: str, uri: str, table: Callable[[Store], Table]) -> None:
    """Prints the table of a root, and whether the folder does not exist. Raises UserError for a file."""
    root = open_store(uri)
    folder = root.root if isinstance(root, FolderStore) else None
    if folder is not None and is_file(folder):
        raise UserError(f"{option} '{uri}' is a file; give the folder that contains it")
    _show(table(root), "" if folder is None or is_dir(folder) else ", the folder does not exist")


def _show_all(arguments: Any, config: TrackingConfig, errors: list[str]) -> None:
    with _collected(errors):
        _show_root("--feature-root", arguments.feature_root, feature_sets)
    with _collected(errors):
        _show_root("--index-root", arguments.index_root, index_table)
    with _collected(errors):
        tracking = infra.tracking.find_store(config)
        if tracking is None:
            print(f"**trainings and models**: none, tracking.uri {config.uri} does not exist\n", flush=True)
        else:
            for table in (trainings, models):
                with _collected(errors):
                    _show(table(tracking))
            with _collected(errors):
                if (logs := running_logs(tracking)).rows:
                    _show(logs)
    if arguments.address:
        with _collected(errors):
            _show(cluster_jobs(arguments.address))


def _show_failed(arguments: Any, config: TrackingConfig, errors: list[str]) -> None:
    sources = [partial(failed_folders, open_store(root)) for root in (arguments.feature_root, arguments.index_root)]
    tracking = None
    with _collected(errors):
        if (tracking := infra.tracking.find_store(config)) is not None:
            sources.append(partial(failed_runs, tracking))
    if arguments.address:
        sources.append(partial(failed_jobs, arguments.address, tracking))
    for source in sources:
        with _collected(errors):
            for failed in source():
                print(failed.text(), end="\n\n", flush=True)


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "status", "Print the state of feature sets, indexes, runs, models and jobs.", _arguments, ("tracking",)
    )
    errors: list[str] = []
    show = _show_failed if arguments.failed else _show_all
    show(arguments, config.tracking, errors)
    if errors:
        raise UserError("; ".join(errors))


if __name__ == "__main__":
    cli.run(main)
