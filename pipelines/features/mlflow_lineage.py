"""What an MLflow run logs of the feature set that it reads: tags with its lineage, and its splits as datasets.

MLflow identifies a dataset by name and digest within an experiment, and lists it once per run. Each split is therefore
a dataset of its own, `<data set> <split>`, whose digest is that of `URI@<12 hex>`. MLflow keeps the location at which a
dataset was first logged; where a run found it is its tag FEATURE_SET_URI.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from infra.tracking import Tracking
from infra.tracking_errors import TrackingError
from pipelines.features.feature_set import FeatureSet
from pipelines.features.summary import SplitSummary, summarise

if TYPE_CHECKING:
    from mlflow.entities import Dataset

FEATURE_SET_URI = "feature_set_uri"
"""Tag of a run: where it found the feature set."""
LINEAGE = "lineage."
"""Prefix of the tags with `FeatureSet.lineage`."""
RUN_TAGS = (FEATURE_SET_URI, f"{LINEAGE}manifest", f"{LINEAGE}fingerprint", f"{LINEAGE}feature_set")
"""The tags of a run that reads a feature set."""


def run_tags(features: FeatureSet) -> dict[str, str]:
    """Returns the tags of a run that reads the feature set."""
    return {FEATURE_SET_URI: features.uri} | {f"{LINEAGE}{name}": value for name, value in features.lineage.items()}


def recorded_lineage(tags: Mapping[str, str]) -> dict[str, str]:
    """Returns the lineage that the tags of a run record, by the names of `FeatureSet.lineage`."""
    return {name.removeprefix(LINEAGE): value for name, value in tags.items() if name.startswith(LINEAGE)}


def readers_filter(digest: str) -> str:
    """Returns MLflow's search filter for the runs that read a feature set, by the first digits of its digest."""
    return f"tags.`{LINEAGE}feature_set` LIKE '{digest}%'"


def readers_at_filter(uri: str) -> str:
    """Returns MLflow's search filter for the runs that read any snapshot of the feature set at a URI without digest."""
    quote = '"' if "'" in uri else "'"
    return f"tags.{FEATURE_SET_URI} = {quote}{uri}{quote}"


def log_datasets(tracking: Tracking, run_id: str, features: FeatureSet, contexts: Mapping[str, str]) -> None:
    """Logs splits as dataset inputs of a run; `contexts` maps each to its use, such as `training`.

    A split that the run has already is left as it is. Raises TrackingError if the store fails.
    """
    from mlflow.entities import DatasetInput, InputTag
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    inputs = [
        DatasetInput(_dataset(features, split), [InputTag(MLFLOW_DATASET_CONTEXT, contexts[split.split])])
        for split in summarise(features)
        if split.split in contexts
    ]
    client = tracking.client()
    try:
        client.log_inputs(run_id, inputs)
    except (MlflowException, TrackingError) as error:
        if error.error_code != "BAD_REQUEST":
            raise
        client.log_inputs(run_id, inputs)  # another run has logged the same dataset, new as well, at this moment


def _dataset(features: FeatureSet, split: SplitSummary) -> "Dataset":
    from mlflow.entities import Dataset

    local = features.uri.startswith("/")
    low, high = features.index.detector.region_range
    regions = f"{low if low == high else f'{low} to {high}'} x {features.index.detector.feature_dim}"
    counts = {"photos": split.written, "captions": split.captions, "rejected": split.rejected, "regions": regions}
    return Dataset(
        name=f"{features.dataset} {split.split}",
        digest=features.index.feature_set[:12],
        source_type="local" if local else features.uri.partition("://")[0],
        source=json.dumps({"uri": Path(features.uri).as_uri() if local else features.uri}),
        schema=json.dumps({"mlflow_colspec": _columns()}),
        profile=json.dumps(counts),
    )


def _columns() -> list[dict[str, object]]:
    """Returns what a sample contains, in the form that MLflow's page shows."""
    from mlflow.types import DataType, Schema
    from mlflow.types.schema import Array, ColSpec

    matrix = Array(Array(DataType.float))
    columns = {"key": DataType.string, "captions": Array(DataType.string), "regions": matrix, "boxes": matrix}
    found: list[dict[str, object]] = Schema([ColSpec(kind, name) for name, kind in columns.items()]).to_dict()
    return found
