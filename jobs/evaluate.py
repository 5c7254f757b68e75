"""Models on a split of a feature set: recalls both ways with intervals, chance beside them, and how they differ.

python -m jobs.evaluate --model models:/shan-flickr30k@champion --features URI --split test
python -m jobs.evaluate --model models:/M/6 runs:/0123abcd s3://bucket/runs/a/best --features URI --report r.html
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from infra.errors import UserError
from infra.tracking import Tracking
from jobs import cli
from jobs.config import Config
from jobs.evaluation import Evaluation, tables
from jobs.load import MODEL_HELP, load_matchers
from jobs.score import RowRange, score
from jobs.tables import check_report, write_report
from pipelines.feature_set import FeatureSet, Split
from shan_model.metrics import retrieval_ranks
from shan_model.model import SHAN
from shan_model.protocols import PROTOCOLS, Fold, cut_folds
from shan_model.scoring import Progress, identity


def evaluate(shan: SHAN, name: str, split: Split, config: Config, protocol: str | None = None) -> Evaluation:
    """Scores the split's photos with its captions and measures retrieval both ways, fold by fold of the protocol.

    Raises UserError for a split of another size than the protocol's.
    """
    try:
        folds = cut_folds(protocol, len(split), split.photo_of_caption)
    except ValueError as error:
        raise UserError(str(error)) from error
    pairs = sum((fold.photos.stop - fold.photos.start) * len(fold.captions) for fold in folds)
    ranks = []
    with tqdm(total=pairs, desc=f"score {split.name}", unit="pair", unit_scale=True) as bar:
        for number, fold in enumerate(folds):
            scores_NC = _score_fold(shan, split, fold, number if len(folds) > 1 else None, config, bar.update)
            ranks.append(retrieval_ranks(scores_NC, fold.photo_of_caption))
    name_of_split = split.name if protocol is None else f"{split.name}, {protocol}"
    return Evaluation(name, name_of_split, len(split), len(split.captions), folds, ranks)


def report(evaluations: Sequence[Evaluation]) -> str:
    """The tables as Markdown."""
    return "\n\n".join(table.markdown() for table in tables(evaluations))


def _score_fold(
    shan: SHAN, split: Split, fold: Fold, number: int | None, config: Config, progress: Progress
) -> NDArray[np.floating]:
    captions = [split.captions[c] for c in fold.captions]
    options = config.score
    if options.output and number is not None:
        path = Path(options.output)
        options = replace(options, output=str(path.with_stem(f"{path.stem}-fold{number}")))
    of = "|".join((*(receipt.sha256 for receipt in split.receipts), str(fold.photos)))
    scores_of = identity(shan, captions, features=of) if options.output else ""
    return score(shan, RowRange(split, fold.photos), captions, options, config.cluster, scores_of, progress)


def log_evaluation(tracking: Tracking, run_id: str, evaluation: Evaluation) -> None:
    """Metrics `<split>_...` and the table into a run."""
    metrics = evaluation.recalls.as_metrics() | evaluation.medians
    tracking.log_metrics(run_id, {f"{evaluation.split}_{k}": v for k, v in metrics.items()})
    tracking.log_metrics(run_id, {f"{evaluation.split}_chance_rsum": evaluation.chance.rsum})
    tracking.client().log_text(run_id, report([evaluation]) + "\n", f"evaluation_{evaluation.split}.md")


def _arguments(parser: Any) -> None:
    parser.add_argument("--model", type=str, nargs="+", required=True, help=f"one model or several: {MODEL_HELP}")
    parser.add_argument("--features", type=str, required=True, help="URI of a feature set")
    parser.add_argument("--split", type=str, default="test", help="train, val or test")
    parser.add_argument(
        "--protocol",
        type=str | None,
        default=None,
        help=f"{', '.join(PROTOCOLS)}: a published protocol (its test split has a fixed size); none: the whole split",
    )
    parser.add_argument("--report", type=Path | None, default=None, help="also write the tables to this .md or .html")


def main() -> None:
    """Command line."""
    arguments, config = cli.parse(
        "evaluate", "Recalls of models, side by side.", _arguments, ("score", "tracking", "cluster")
    )
    check_report(arguments.report)
    if len(arguments.model) > 1 and config.score.output:
        raise UserError("score.output keeps the matrix of one model; evaluate that one alone, or leave it out")
    features = FeatureSet.open(arguments.features)
    split = features.split(arguments.split)
    models = load_matchers(arguments.model, features, config.tracking)
    evaluations = [
        evaluate(shan, uri, split, config, arguments.protocol)
        for uri, shan in zip(arguments.model, models, strict=True)
    ]
    print(report(evaluations))
    if arguments.report is not None:
        write_report(arguments.report, f"{split.name} of {features.uri}", tables(evaluations))


if __name__ == "__main__":
    cli.run(main)
