"""The model card of a version that a promotion has evaluated: decision, results with intervals, comparison."""

from collections.abc import Mapping
from datetime import datetime

from pipelines.evaluation.criterion import Decision
from pipelines.evaluation.results import Evaluation, evaluation_tables
from pipelines.features.feature_set import FeatureSet
from pipelines.models.model_card import model_card, stored_as
from pipelines.reports.tables import markdown
from shan_model.model import SHAN


def evaluated_model_card(
    name: str,
    version: int,
    shan: SHAN,
    lineage: Mapping[str, str],
    features: FeatureSet,
    evaluations: list[Evaluation],
    decision: Decision,
    decided_at: datetime,
) -> str:
    """Returns the card of a challenger.

    `lineage` holds the tags of the version. `evaluations` holds the challenger's evaluation, followed by the
    champion's if there was one.
    """
    outcome = "Promoted to champion" if decision.promote else "Not promoted"
    results = [
        f"{outcome} on {decided_at:%Y-%m-%d %H:%M} UTC: {decision.reason}.",
        f"Split `{evaluations[0].split}` of data set {features.dataset}, feature set `{stored_as(features)}`, with "
        "95 % intervals:",
        markdown(evaluation_tables(evaluations[::-1])),
    ]
    return model_card(name, version, shan, lineage, features, results)


def snapshot_uri(features: FeatureSet) -> str:
    """Returns the URI of this snapshot of the feature set; it stays valid after later extractions extend the set."""
    return features.pinned_uri
