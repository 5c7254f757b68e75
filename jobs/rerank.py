"""Measures retrieve-and-rerank with a model on a split: recall of candidate generation, and time saved.

python -m jobs.rerank --model models:/shan-flickr30k@champion --features URI --split test
"""

from typing import Any

from jobs import cli, options
from pipelines.evaluation.evaluate import log_evaluated_data
from pipelines.features.feature_set import FeatureSet
from pipelines.models.device import choose_device
from pipelines.models.load import load_model_for, store_of_models
from pipelines.search.reranking_report import reranking_table


def _arguments(parser: Any) -> None:
    options.add(parser, "--model", required=True)
    options.add(parser, "--features", required=True)
    options.add(parser, "--device")
    options.add(parser, "--split", "All its scores must fit into memory.")


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "rerank", "Measure retrieve-and-rerank against exact scoring.", _arguments, ("tracking",)
    )
    device = choose_device(arguments.device)
    features = FeatureSet.open(arguments.features)
    split = features.captioned(arguments.split)
    tracking = store_of_models([arguments.model], config.tracking)
    model = load_model_for(tracking, arguments.model, features, device)
    print(reranking_table(model.shan, split).markdown(), flush=True)
    log_evaluated_data(tracking, model.run_id, features, arguments.split)


if __name__ == "__main__":
    cli.run(main)
