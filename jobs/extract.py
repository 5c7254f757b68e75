"""Photos to a feature set: detector regions in webdataset shards, exactly once.

python -m jobs.extract --dataset dataset_flickr30k.json --photos flickr30k-images --extract.output s3://bucket/features
python -m jobs.extract ... --plan --estimate.num_nodes 8 --estimate.dollars_per_node_hour 0.8
"""

import time
from typing import Any

from jobs import cli
from pipelines.datasets.importer import import_dataset
from pipelines.extraction.estimate_report import planned_against_real, run_plan
from pipelines.extraction.run import report, run_extraction


def _arguments(parser: Any) -> None:
    parser.add_argument(
        "--dataset",
        type=str,
        required=True,
        help="Karpathy JSON, or a .csv, .jsonl, .parquet of URIs; path or URI itself",
    )
    parser.add_argument("--photos", type=str, default=".", help="folder, s3:// prefix or .tar of relative photo paths")
    parser.add_argument(
        "--plan", action="store_true", help="measure a short probe, print shards, bytes, hours, cost; stop"
    )


def main() -> None:
    """Command line."""
    sections = ("extract", "estimate", "cluster")
    arguments, config = cli.parse("extract", "Photos to a feature set.", _arguments, sections)
    manifest = import_dataset(arguments.dataset, arguments.photos)
    if arguments.plan:
        print(run_plan(manifest, config.extract, config.estimate, config.cluster))
        return
    start = time.perf_counter()
    extraction = run_extraction(manifest, config.extract, config.cluster)
    print(report(extraction))
    print(planned_against_real(extraction, time.perf_counter() - start), end="")


if __name__ == "__main__":
    cli.run(main)
