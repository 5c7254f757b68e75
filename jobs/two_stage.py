"""What two-stage retrieval keeps of a model's exact answers on a split, and what it saves.

python -m jobs.two_stage --model models:/shan-flickr30k@champion --features URI --split test
"""

from typing import Any

from jobs import cli
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import MODEL_HELP, load_matchers
from pipelines.serving.two_stage_report import report


def _arguments(parser: Any) -> None:
    parser.add_argument("--model", type=str, required=True, help=MODEL_HELP)
    parser.add_argument("--features", type=str, required=True, help="URI of a feature set")
    parser.add_argument("--split", type=str, default="test", help="train, val or test; it is scored in memory")


def main() -> None:
    """Command line."""
    arguments, config = cli.parse(
        "two_stage", "What two-stage retrieval keeps of exact answers.", _arguments, ("tracking",)
    )
    features = FeatureSet.open(arguments.features)
    split = features.split(arguments.split)
    (shan,) = load_matchers([arguments.model], features, config.tracking)
    print(report(shan.eval(), split))


if __name__ == "__main__":
    cli.run(main)
