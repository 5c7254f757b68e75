"""Prints the state of feature sets, runs, models and their champions, and of the jobs of a cluster.

    python -m jobs.status --feature-root s3://bucket/features --tracking.uri http://mlflow:5000 \
        --address http://head:8265
"""

from collections.abc import Callable
from typing import Any

from infra.errors import StorageError, UserError
from infra.storage.open import open_store
from jobs import cli
from pipelines.extraction.config import ExtractConfig
from pipelines.reports.tables import Table
from pipelines.status import cluster_jobs, feature_sets, tracking_tables


def _arguments(parser: Any) -> None:
    parser.add_argument(
        "--feature-root",
        type=str,
        default=ExtractConfig.output,
        metavar="URI",
        help="folder or s3:// prefix that contains feature sets",
    )
    parser.add_argument(
        "--address", type=str, default=None, metavar="URL", help="http://<head>:8265 of a cluster, to list jobs"
    )


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "status", "Print the state of feature sets, runs, models and jobs.", _arguments, ("tracking",)
    )
    queries: list[Callable[[], list[Table]]] = [
        lambda: [feature_sets(open_store(arguments.feature_root))],
        lambda: tracking_tables(config.tracking),
        lambda: [cluster_jobs(arguments.address)] if arguments.address else [],
    ]
    errors = []
    for query in queries:
        try:
            for table in query():
                print(table.markdown() if table.rows else f"**{table.title}**: none", end="\n\n", flush=True)
        except (UserError, StorageError) as error:  # the other services may respond
            errors.append(str(error))
    if errors:
        raise UserError("; ".join(errors))


if __name__ == "__main__":
    cli.run(main)
