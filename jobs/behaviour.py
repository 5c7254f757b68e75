"""Runs behavioural tests of a model: perturbed captions, unusual texts, order of the inputs; shows the worst cases.

python -m jobs.behaviour --model models:/shan-flickr30k@champion --features URI --split test --report behaviour.html
"""

from pathlib import Path
from typing import Any

from tqdm import tqdm

from jobs import cli
from pipelines.evaluation.behaviour import run_behaviour_tests
from pipelines.evaluation.behaviour_report import summary_table, write_behaviour_report
from pipelines.features.feature_set import FeatureSet
from pipelines.models.device import DEVICE_HELP, Device, choose_device
from pipelines.models.load import MODEL_HELP, load_matchers
from pipelines.reports.tables import check_report


def _arguments(parser: Any) -> None:
    parser.add_argument("--model", type=str, required=True, help=MODEL_HELP)
    parser.add_argument("--features", type=str, required=True, help="URI of a feature set")
    parser.add_argument("--device", type=Device, default="auto", help=DEVICE_HELP)
    parser.add_argument("--split", type=str, default="test", help="train, val, test or gallery")
    parser.add_argument(
        "--report", type=Path, default=None, help="write the worst cases to this .md file, or .html with photos"
    )


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse("behaviour", "Run behavioural tests of a model.", _arguments, ("tracking",))
    check_report(arguments.report)
    device = choose_device(arguments.device)
    features = FeatureSet.open(arguments.features)
    split = features.captioned(arguments.split)
    (shan,) = load_matchers([(arguments.model, features)], config.tracking, device)
    results = list(tqdm(run_behaviour_tests(shan, split), desc="behaviour", unit="test"))
    title = f"Behaviour of {arguments.model} on {split.name}"
    print(summary_table(title, results).markdown())
    if arguments.report is not None:
        write_behaviour_report(arguments.report, title, results, features, split)


if __name__ == "__main__":
    cli.run(main)
