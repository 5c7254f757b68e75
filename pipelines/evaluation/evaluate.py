"""Evaluates a model on a split of a feature set and logs the results to its MLflow run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.model_artifacts import download_artifact, download_folder
from infra.outages import outage_as_warning
from infra.progress import ProgressBar
from infra.tracking import Tracking
from infra.tracking_errors import explained
from pipelines.evaluation.ensemble import Ensemble
from pipelines.evaluation.results import Evaluation, evaluation_tables
from pipelines.evaluation.score import score_all_pairs
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.features.mlflow_lineage import log_datasets
from pipelines.features.split import Split
from pipelines.reports.tables import markdown
from shan_model.blocks import RowRange
from shan_model.metrics import retrieval_ranks
from shan_model.model import SHAN
from shan_model.protocols import Fold, cut_folds
from shan_model.scoring import OnPairs, identity


def evaluate(
    shan: SHAN,
    name: str,
    split: Split,
    config: ScoreConfig,
    cluster: ClusterConfig,
    protocol: str | None = None,
    ensemble: Ensemble | None = None,
) -> Evaluation:
    """Scores all photos of the split with all its captions and ranks them in both directions, per fold of the protocol.

    `name` is the model's name in tables. Scores are also added to `ensemble`. Raises UserError if the split does not
    have the protocol's size.
    """
    try:
        folds = cut_folds(protocol, len(split), split.photo_of_caption)
    except ValueError as error:
        raise UserError(str(error)) from error
    pairs = sum((fold.photos.stop - fold.photos.start) * len(fold.captions) for fold in folds)
    ranks = []
    with ProgressBar(total=pairs, desc=f"score {split.name}", unit="pair", unit_scale=True) as bar:
        for number, fold in enumerate(folds):
            scores_NC = _score_fold(shan, split, fold, number if len(folds) > 1 else None, config, cluster, bar.update)
            ranks.append(retrieval_ranks(scores_NC, fold.photo_of_caption))
            if ensemble is not None:
                ensemble.add(number, scores_NC)
    split_name = split.name if protocol is None else f"{split.name}, {protocol}"
    return Evaluation(name, split_name, len(split), len(split.captions), folds, ranks)


def _score_fold(
    shan: SHAN,
    split: Split,
    fold: Fold,
    number: int | None,
    config: ScoreConfig,
    cluster: ClusterConfig,
    progress: OnPairs,
) -> NDArray[np.floating]:
    """Scores one gallery; every fold of several has a cache file of its own."""
    captions = [split.captions[c] for c in fold.captions]
    if number is not None:
        config = with_own_cache(config, f"fold{number}")
    photos = (*(shard.sha256 for shard in split.stored.shards), *(split.selected or ()))
    features = "|".join((*photos, str(fold.photos)))
    scores_of = identity(shan, captions, features=features) if config.cache_file else ""
    return score_all_pairs(shan, RowRange(split, fold.photos), captions, config, cluster, scores_of, progress)


def with_own_cache(config: ScoreConfig, name: str) -> ScoreConfig:
    """Returns the config with `-<name>` appended to the name of its score cache, if it has one."""
    path = Path(config.cache_file)
    return replace(config, cache_file=str(path.with_stem(f"{path.stem}-{name}"))) if config.cache_file else config


def log_evaluated_data(
    tracking: Tracking | None, run_id: str | None, features: FeatureSet, split: str, context: str = "evaluation"
) -> None:
    """Logs a split of `features` to the run of a model that was evaluated on it, as a dataset with this context.

    A dataset that the run lists already keeps its context. For a checkpoint folder, which has neither store nor run,
    nothing is logged. A failure is a warning, since the results exist and the store may be read-only for this user.
    """
    if tracking is not None and run_id is not None:
        with outage_as_warning(f"run {run_id} does not list split {split} of {features.uri} as a dataset"):
            log_datasets(tracking, run_id, features, {split: context})


def log_evaluation(
    tracking: Tracking, run_id: str, features: FeatureSet, evaluation: Evaluation, precision: str
) -> str:
    """Logs the evaluation of a split of `features`, and returns the text of its artifact.

    These are the split as a dataset, metrics `<split>_image_to_text_r1` ..., `<split>_random_rsum`, the artifact
    `evaluation_<split>.md`, and the tag `<split>_precision`, that of the scores (`score.precision`).
    """
    log_datasets(tracking, run_id, features, {evaluation.split: "evaluation"})
    metrics = evaluation.recalls.as_metrics() | evaluation.medians | {"random_rsum": evaluation.random_baseline.rsum}
    tracking.log_metrics(run_id, {f"{evaluation.split}_{name}": value for name, value in metrics.items()})
    text = markdown(evaluation_tables([evaluation])) + "\n"
    tracking.client().log_text(run_id, text, _artifact(evaluation.split))
    tracking.client().set_tag(run_id, f"{evaluation.split}_precision", precision)
    return text.rstrip()


def evaluation_text(tracking: Tracking, run_id: str, split: str, precision: str) -> str | None:
    """Returns what `log_evaluation` has logged for a split of a run; None if nothing of that precision was logged."""
    name = _artifact(split)
    with explained(tracking.uri, "reading the evaluation from"):
        if tracking.client().get_run(run_id).data.tags.get(f"{split}_precision") != precision:
            return None
        if name not in {file.path for file in tracking.client().list_artifacts(run_id)}:
            return None
    with download_folder() as folder:
        path = download_artifact(tracking, f"runs:/{run_id}/{name}", folder, "reading the evaluation from")
        return path.read_text(encoding="utf-8").rstrip()


def _artifact(split: str) -> str:
    return f"evaluation_{split}.md"
