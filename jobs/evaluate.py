"""Evaluates one or several models on a split: recalls with intervals, the random baseline, paired differences.

python -m jobs.evaluate --model models:/shan-flickr30k@champion --features URI --split test
python -m jobs.evaluate --model models:/M/6 s3://bucket/runs/M-0123456789ab/epoch-007-lease-000001 --features URI
python -m jobs.evaluate --model models:/M/6=URI_OF_ITS_DETECTOR models:/M/8 --features URI
python -m jobs.evaluate --ensemble models:/T2I/1 models:/I2T/1 --features URI --protocol f30k-1k
"""

from typing import Any

from infra.errors import UserError
from jobs import cli, options
from jobs.config import Config
from pipelines.evaluation.ensemble import Ensemble, require_one_feature_set
from pipelines.evaluation.evaluate import evaluate, log_evaluated_data, with_own_cache
from pipelines.evaluation.results import evaluation_tables
from pipelines.evaluation.score import driver_device
from pipelines.features.feature_set import FeatureSet
from pipelines.features.pairing import paired_splits, pairing_note
from pipelines.features.split import Split
from pipelines.models.load import LoadedModel, load_model_for, split_features, store_of_models
from pipelines.reports.tables import Table, check_report, markdown, write_report
from shan_model.protocols import PROTOCOLS


def _arguments(parser: Any) -> None:
    own = "Several models are compared. Append =URI to evaluate a model on a feature set of its own detector."
    options.add(parser, "--model", own, nargs="+", default=[])
    parser.add_argument(
        "--ensemble",
        type=str,
        nargs="+",
        default=[],
        metavar="MODEL",
        help="Two or more models of one feature set, evaluated after --model, followed by the mean of their scores.",
    )
    options.add(parser, "--features", "It is used for models without a feature set of their own.")
    options.add(parser, "--intersect")
    options.add(parser, "--device")
    options.add(parser, "--split")
    parser.add_argument(
        "--protocol",
        choices=tuple(PROTOCOLS),
        help="Published protocol. By default all photos of the split form one gallery.",
    )
    options.add(parser, "--report")


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "evaluate",
        "Measure recalls of models on a split, with confidence intervals.",
        _arguments,
        ("score", "tracking", "cluster"),
    )
    check_report(arguments.report)
    given = list(dict.fromkeys([*arguments.model, *arguments.ensemble]))
    if not given:
        raise UserError("--model is missing; give it, or --ensemble")
    device = driver_device(arguments.device, config.score)
    models = _with_features(given, arguments.features)
    if arguments.ensemble:
        require_one_feature_set([models[given.index(member)] for member in dict.fromkeys(arguments.ensemble)])
    if arguments.intersect and len({features.pinned_uri for _, features in models}) == 1:
        raise UserError("--intersect has no effect with one feature set; omit it")
    splits = paired_splits([features for _, features in models], arguments.split, arguments.intersect)
    tracking = store_of_models([uri for uri, _ in models], config.tracking)
    loaded = [load_model_for(tracking, uri, features, device) for uri, features in models]
    tables = _tables(given, loaded, splits, arguments, config)
    print(markdown(tables), flush=True)
    if note := pairing_note(splits):
        print(note)
    if arguments.report is not None:
        uris = " and ".join(dict.fromkeys(features.uri for _, features in models))
        write_report(arguments.report, f"{arguments.split} of {uris}", tables)
    for model, (_, features) in zip(loaded, models, strict=True):
        log_evaluated_data(tracking, model.run_id, features, arguments.split)


def _tables(
    given: list[str], loaded: list[LoadedModel], splits: list[Split], arguments: Any, config: Config
) -> list[Table]:
    """Evaluates the models, and the ensemble if there is one. Each of several models has a score cache of its own."""
    members = [model for name, model in zip(given, loaded, strict=True) if name in arguments.ensemble]
    ensemble = Ensemble(members) if members else None
    evaluations = []
    for number, (name, model, split) in enumerate(zip(given, loaded, splits, strict=True), start=1):
        score = with_own_cache(config.score, f"model{number}") if len(given) > 1 else config.score
        to = ensemble if name in arguments.ensemble else None
        evaluations.append(evaluate(model.shan, model.uri, split, score, config.cluster, arguments.protocol, to))
    if ensemble is None:
        return evaluation_tables(evaluations)
    return [ensemble.table(), *evaluation_tables([*evaluations, ensemble.evaluation(evaluations[0])])]


def _with_features(given: list[str], default: str | None) -> list[tuple[str, FeatureSet]]:
    """Returns the URI of each model and its feature set, which is opened once."""
    uris = [split_features(model) for model in given]
    lacking = [model for model, own in uris if own is None]
    if default is None and lacking:
        raise UserError(f"--features is missing; give it, or --model {lacking[0]}=URI with a feature set of its own")
    if default is not None and not lacking:
        raise UserError("--features has no effect, because each --model names a feature set of its own; omit it")
    opened = {uri: FeatureSet.open(uri) for uri in dict.fromkeys(own or default for _, own in uris) if uri is not None}
    return [(model, opened[str(own or default)]) for model, own in uris]


if __name__ == "__main__":
    cli.run(main)
