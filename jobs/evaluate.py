"""Evaluates one or several models on a split: recalls with intervals, the random baseline, paired differences.

python -m jobs.evaluate --model models:/shan-flickr30k@champion --features URI --split test
python -m jobs.evaluate --model models:/M/6 s3://bucket/runs/M-0123456789ab/epoch-007-lease-000001 --features URI
"""

from pathlib import Path
from typing import Any

from infra.errors import UserError
from jobs import cli
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.results import evaluation_tables
from pipelines.evaluation.score import driver_device
from pipelines.features.feature_set import FeatureSet
from pipelines.models.device import DEVICE_HELP, Device
from pipelines.models.load import MODEL_HELP, load_matchers
from pipelines.reports.tables import check_report, markdown, write_report
from shan_model.protocols import PROTOCOLS


def _arguments(parser: Any) -> None:
    parser.add_argument(
        "--model", type=str, nargs="+", required=True, help=f"one or several models, each a {MODEL_HELP}"
    )
    parser.add_argument("--features", type=str, required=True, help="URI of a feature set")
    parser.add_argument("--device", type=Device, default="auto", help=DEVICE_HELP)
    parser.add_argument("--split", type=str, default="test", help="train, val, test or gallery")
    parser.add_argument(
        "--protocol",
        type=str,
        default=None,
        help=f"published protocol: {', '.join(PROTOCOLS)}; by default all photos of the split form one gallery",
    )
    parser.add_argument("--report", type=Path, default=None, help="write the tables to this .md or .html file")


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "evaluate",
        "Measure recalls of models on a split, with confidence intervals.",
        _arguments,
        ("score", "tracking", "cluster"),
    )
    check_report(arguments.report)
    if len(arguments.model) > 1 and config.score.cache_file:
        raise UserError(
            "score.cache_file is set but stores the scores of one model only; give one --model or omit score.cache_file"
        )
    device = driver_device(arguments.device, config.score)
    features = FeatureSet.open(arguments.features)
    split = features.captioned(arguments.split)
    models = load_matchers(arguments.model, features, config.tracking, device)
    evaluations = [
        evaluate(shan, uri, split, config.score, config.cluster, arguments.protocol)
        for uri, shan in zip(arguments.model, models, strict=True)
    ]
    print(markdown(evaluation_tables(evaluations)))
    if arguments.report is not None:
        write_report(arguments.report, f"{split.name} of {features.uri}", evaluation_tables(evaluations))


if __name__ == "__main__":
    cli.run(main)
