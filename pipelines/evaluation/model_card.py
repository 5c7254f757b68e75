"""The card of a registered version, in Markdown: what it is, on which features, how good, against whom, how to load."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from pipelines.evaluation.gate import Verdict
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
    verdict: Verdict,
    at: datetime,
) -> str:
    """`evaluations`: the candidate's, then the champion's if it met one. `lineage`: tags of the version."""
    size = sum(p.numel() for p in shan.parameters())
    outcome = "Became champion" if verdict.passed else "Stayed a candidate"
    trained = ", ".join(f"{key} {lineage[key]}" for key in ("dataset", "run", "fingerprint") if key in lineage)
    tables = evaluation_tables(evaluations[::-1])
    return "\n\n".join(
        [
            f"# {name} version {version}",
            f"Scores photos with sentences over region features: `{shan.config.matcher}`, {size:,} parameters, "
            f"{len(shan.vocabulary):,} words.",
            f"{outcome} on {at:%Y-%m-%d %H:%M} UTC: {verdict.reason}.",
            f"Trained on: {trained}. Feature set `{lineage.get('feature_set', '')[:12]}`.",
            f"Measured on {pinned(features)}, intervals 95 %:",
            markdown(tables),
            f"```python\nmlflow.pyfunc.load_model('models:/{name}/{version}').unwrap_python_model().shan\n```",
            f"Config: `{json.dumps(asdict(shan.config))}`",
        ]
    )


def pinned(features: FeatureSet) -> str:
    """The URI that means this very feature set, also after an extraction has extended it."""
    return f"{features.uri}@{features.lineage['feature_set'][:12]}"
