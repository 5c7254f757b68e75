"""Runs the complete pipeline on this machine: images -> shards -> training -> MLflow -> champion -> search results.

python -m jobs.quickstart                                                   # rendered scenes
python -m jobs.quickstart --dataset dataset_flickr8k.json --photos images   # your own data set
"""

from typing import Any

from infra.signals import when_interrupted
from jobs import cli, options
from pipelines.pipeline.setup import PipelineSetup
from pipelines.quickstart import run_quickstart


def _arguments(parser: Any) -> None:
    options.add_dataset(parser, required=False)


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "quickstart",
        "Run the complete pipeline on this machine, on rendered scenes or your data set.",
        _arguments,
        ("scenes", "extract", "model", "train", "cache", "score", "promote", "tracking", "register", "cluster"),
        default_preset="quickstart",
    )
    if arguments.dataset is not None:
        options.warn_without_effect(arguments, {"scenes"}, "with --dataset")
    setup = PipelineSetup(config.extract, config.training(), config.score, config.promote, config.index)
    with when_interrupted("re-run the same command to continue"):
        run_quickstart(options.dataset_files(arguments), arguments.photos, config.scenes, setup)


if __name__ == "__main__":
    cli.run(main)
