"""pipelines/evaluation/evaluate.py."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.tracking import Tracking
from pipelines.evaluation.results import Evaluation, tables
from pipelines.evaluation.score import ScoreConfig, score
from pipelines.features.feature_set import Split
from shan_model.metrics import retrieval_ranks
from shan_model.model import SHAN
from shan_model.protocols import Fold, cut_folds
from shan_model.scoring import Progress, RowRange, identity


def evaluate(
    shan: SHAN, name: str, split: Split, config: ScoreConfig, cluster: ClusterConfig, protocol: str | None = None
) -> Evaluation:
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
            scores_NC = _score_fold(shan, split, fold, number if len(folds) > 1 else None, config, cluster, bar.update)
            ranks.append(retrieval_ranks(scores_NC, fold.photo_of_caption))
    name_of_split = split.name if protocol is None else f"{split.name}, {protocol}"
    return Evaluation(name, name_of_split, len(split), len(split.captions), folds, ranks)


def report(evaluations: Sequence[Evaluation]) -> str:
    """The tables as Markdown."""
    return "\n\n".join(table.markdown() for table in tables(evaluations))


def _score_fold(
    shan: SHAN,
    split: Split,
    fold: Fold,
    number: int | None,
    config: ScoreConfig,
    cluster: ClusterConfig,
    progress: Progress,
) -> NDArray[np.floating]:
    captions = [split.captions[c] for c in fold.captions]
    if config.output and number is not None:
        path = Path(config.output)
        config = replace(config, output=str(path.with_stem(f"{path.stem}-fold{number}")))
    of = "|".join((*(receipt.sha256 for receipt in split.receipts), str(fold.photos)))
    scores_of = identity(shan, captions, features=of) if config.output else ""
    return score(shan, RowRange(split, fold.photos), captions, config, cluster, scores_of, progress)


def log_evaluation(tracking: Tracking, run_id: str, evaluation: Evaluation) -> None:
    """Metrics `<split>_...` and the table into a run."""
    metrics = evaluation.recalls.as_metrics() | evaluation.medians
    tracking.log_metrics(run_id, {f"{evaluation.split}_{k}": v for k, v in metrics.items()})
    tracking.log_metrics(run_id, {f"{evaluation.split}_chance_rsum": evaluation.chance.rsum})
    tracking.client().log_text(run_id, report([evaluation]) + "\n", f"evaluation_{evaluation.split}.md")
