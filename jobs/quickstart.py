"""Runs the whole pipeline on this machine: images -> shards -> training -> MLflow -> champion -> search results.

python -m jobs.quickstart                                                   # rendered scenes
python -m jobs.quickstart --dataset dataset_flickr8k.json --photos images   # your own data set
"""

from typing import Any

from infra.signals import when_interrupted
from jobs import cli
from pipelines.quickstart import QuickstartSetup, run_quickstart


def _arguments(parser: Any) -> None:
    parser.add_argument(
        "--dataset",
        type=str,
        default=None,
        help="Karpathy JSON, or a .csv, .jsonl or .parquet of image URIs; path or URI. Without it, scenes are rendered",
    )
    parser.add_argument("--photos", type=str, default=None, help="folder, s3:// prefix or .tar of its photos")


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "quickstart",
        "Run the whole pipeline on this machine, on rendered scenes or your data set.",
        _arguments,
        ("scenes", "extract", "model", "train", "cache", "score", "promote", "tracking", "register", "cluster"),
        default_preset="quickstart",
    )
    setup = QuickstartSetup(config.scenes, config.extract, config.training(), config.score, config.promote)
    with when_interrupted("re-run the same command to continue"):
        run_quickstart(arguments.dataset, arguments.photos, setup)


if __name__ == "__main__":
    cli.run(main)
