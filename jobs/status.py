"""What is there and what goes on: feature sets, trainings, models and their champions, and jobs of a cluster.

    python -m jobs.status --features s3://bucket/features --tracking.uri http://mlflow:5000 --address http://head:8265

Read from the stores themselves at every call: the listing of the object store, MLflow's runs and registry, and the job
API of Ray if an address is given.
"""

from collections.abc import Callable
from typing import Any

from infra.errors import UserError
from infra.storage.open import open_store
from jobs import cli
from pipelines.extraction.config import ExtractConfig
from pipelines.reports.tables import Table
from pipelines.status import cluster_jobs, feature_sets, tracking_tables


def _arguments(parser: Any) -> None:
    parser.add_argument("--features", type=str, default=ExtractConfig.output, help="root of feature sets")
    parser.add_argument("--address", type=str | None, default=None, help="the head's dashboard, for jobs in flight")


def main() -> None:
    """Command line."""
    arguments, config = cli.parse("status", "What is there and what goes on.", _arguments, ("tracking",))
    wanted: list[Callable[[], list[Table]]] = [
        lambda: [feature_sets(open_store(arguments.features))],
        lambda: tracking_tables(config.tracking),
        lambda: [cluster_jobs(arguments.address)] if arguments.address else [],
    ]
    silent = []
    for tables in wanted:
        try:
            for table in tables():
                print(table.markdown() if table.rows else f"**{table.title}**: none", end="\n\n", flush=True)
        except UserError as error:  # the others may answer, and say why
            silent.append(str(error))
    if silent:
        raise UserError("; ".join(silent))


if __name__ == "__main__":
    cli.run(main)
