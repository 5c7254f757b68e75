"""The model card of a registered version, in Markdown: model, training data, results, comparison, how to load it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from pipelines.evaluation.criterion import Decision
from pipelines.evaluation.results import Evaluation, evaluation_tables
from pipelines.features.feature_set import FeatureSet
from pipelines.reports.tables import markdown
from shan_model.model import SHAN


def model_card(
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
    parameters = sum(p.numel() for p in shan.parameters())
    outcome = "Promoted to champion" if decision.promote else "Not promoted"
    trained_on = ", ".join(f"{key} {lineage[key]}" for key in ("dataset", "run", "fingerprint") if key in lineage)
    return "\n\n".join(
        [
            f"# {name} version {version}",
            f"Scores pairs of a photo, given by its region features, and a caption. Matcher `{shan.config.matcher}`, "
            f"{parameters:,} parameters, {len(shan.vocabulary):,} words.",
            f"{outcome} on {decided_at:%Y-%m-%d %H:%M} UTC: {decision.reason}.",
            f"Trained on: {trained_on}. Feature set `{lineage.get('feature_set', '')[:12]}`.",
            f"Evaluated on split `{evaluations[0].split}` of {snapshot_uri(features)}, with 95 % intervals:",
            markdown(evaluation_tables(evaluations[::-1])),
            f"```python\nmlflow.pyfunc.load_model('models:/{name}/{version}').unwrap_python_model().shan\n```",
            f"Config: `{json.dumps(asdict(shan.config))}`",
        ]
    )


def snapshot_uri(features: FeatureSet) -> str:
    """Returns the URI of this snapshot of the feature set; it stays valid after later extractions extend the set."""
    return f"{features.uri}@{features.lineage['feature_set'][:12]}"
