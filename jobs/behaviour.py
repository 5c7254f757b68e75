"""Runs behavioural tests of a model: perturbed captions, unusual texts, order of the inputs; shows the worst cases.

python -m jobs.behaviour --model models:/shan-flickr30k@champion --features URI --split test --report behaviour.html
"""

from typing import Any

from infra.progress import ProgressBar
from jobs import cli, options
from pipelines.evaluation.behaviour import run_behaviour_tests
from pipelines.evaluation.behaviour_report import summary_table, write_behaviour_report
from pipelines.evaluation.evaluate import log_evaluated_data
from pipelines.features.feature_set import FeatureSet
from pipelines.models.device import choose_device
from pipelines.models.load import load_model_for, store_of_models
from pipelines.reports.tables import check_report


def _arguments(parser: Any) -> None:
    options.add(parser, "--model", required=True)
    options.add(parser, "--features", required=True)
    options.add(parser, "--device")
    options.add(parser, "--split")
    options.add(parser, "--report", "It lists the worst cases, in .html with their photos.")


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse("behaviour", "Run behavioural tests of a model.", _arguments, ("tracking",))
    check_report(arguments.report)
    device = choose_device(arguments.device)
    features = FeatureSet.open(arguments.features)
    split = features.captioned(arguments.split)
    tracking = store_of_models([arguments.model], config.tracking)
    model = load_model_for(tracking, arguments.model, features, device)
    results = list(ProgressBar(run_behaviour_tests(model.shan, split), desc="behaviour", unit="test"))
    title = f"Behaviour of {arguments.model} on {split.name}"
    print(summary_table(title, results).markdown(), flush=True)
    if arguments.report is not None:
        write_behaviour_report(arguments.report, title, results, features, split)
    log_evaluated_data(tracking, model.run_id, features, arguments.split)


if __name__ == "__main__":
    cli.run(main)
