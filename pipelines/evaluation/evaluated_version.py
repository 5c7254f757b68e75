"""A registered version with its evaluation, as a promotion compares it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from infra.cluster import ClusterConfig
from infra.tracking import Tracking
from pipelines.evaluation.evaluate import evaluate, log_evaluated_data
from pipelines.evaluation.results import Evaluation
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.features.split import Split
from pipelines.models.load import load_matcher
from pipelines.models.selection import read_selection
from shan_model.model import SHAN


@dataclass(frozen=True)
class EvaluatedVersion:
    """A loaded version and its evaluation."""

    number: int
    shan: SHAN
    evaluation: Evaluation
    features: FeatureSet
    """Features of the detector that the version was trained on."""
    tags: Mapping[str, str]
    """Tags of the version: its lineage, and how a sweep selected it."""


def evaluate_version(
    tracking: Tracking,
    name: str,
    version: int,
    features: FeatureSet,
    split: Split,
    score: ScoreConfig,
    cluster: ClusterConfig,
    device: str,
) -> EvaluatedVersion:
    """Returns a version, loaded on `device`, with its evaluation on a split of features of its own detector."""
    shan = load_matcher(tracking, f"models:/{name}/{version}", features, device)
    # Two models cannot share one score cache.
    score = replace(score, cache_file=ScoreConfig.cache_file, cache_dtype=ScoreConfig.cache_dtype)
    evaluation = evaluate(shan, f"version {version}", split, score, cluster)
    tags = tracking.client().get_model_version(name, str(version)).tags
    return EvaluatedVersion(version, shan, evaluation, features, tags)


def log_compared_data(tracking: Tracking, compared: list[EvaluatedVersion]) -> None:
    """Logs to the run of each version the split on which it was compared. A failure is a warning."""
    for version in compared:
        log_evaluated_data(tracking, version.tags.get("run"), version.features, version.evaluation.split, "promotion")


def selected_on_split(compared: list[EvaluatedVersion]) -> dict[int, str]:
    """Returns the versions that a sweep selected on the split on which they were evaluated, and how."""
    found = {}
    for version in compared:
        selection = read_selection(version.tags)
        if selection and (bias := selection.bias_on(version.features.dataset, version.evaluation.split)):
            found[version.number] = bias
    return found
