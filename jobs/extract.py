"""Extracts region features from photos into WebDataset shards.

python -m jobs.extract --dataset dataset_flickr30k.json --photos flickr30k-images --extract.output s3://bucket/features
python -m jobs.extract ... --plan --estimate.num_nodes 8 --estimate.dollars_per_node_hour 0.8
"""

import time
from typing import Any

from infra.signals import when_interrupted
from jobs import cli, options
from pipelines.datasets.importer import import_dataset
from pipelines.extraction.estimate_report import compare_with_estimate, estimate_extraction
from pipelines.extraction.run import extract_with_progress_bar, extraction_summary


def _arguments(parser: Any) -> None:
    options.add_dataset(parser, required=True)
    parser.add_argument(
        "--plan", action="store_true", help="Run a short probe and print shards, bytes, hours and cost."
    )


def main() -> None:
    """Runs the command line."""
    sections = ("extract", "estimate", "cluster")
    arguments, config = cli.parse(
        "extract", "Extract region features from photos into a feature set.", _arguments, sections
    )
    if not arguments.plan:
        options.warn_without_effect(arguments, {"estimate"}, "without --plan")
    dataset = options.dataset_files(arguments)
    assert dataset is not None, "--dataset is required"
    manifest = import_dataset(dataset, arguments.photos, config.extract.output)
    if arguments.plan:
        print(estimate_extraction(manifest, config.extract, config.estimate, config.cluster, keep=True))
        return
    start = time.perf_counter()
    with when_interrupted("completed shards are kept, re-run the same command to resume"):
        extraction = extract_with_progress_bar(manifest, config.extract, config.cluster)
    print(extraction_summary(extraction))
    print(compare_with_estimate(extraction, time.perf_counter() - start), end="")


if __name__ == "__main__":
    cli.run(main)
