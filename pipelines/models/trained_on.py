"""Finds the feature set that a registered version was trained on, by its lineage."""

from infra.errors import StorageError, UserError
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet


def trained_on(tracking: Tracking, name: str, version: int) -> FeatureSet:
    """Opens the feature set that a version was trained on, in its latest state.

    Raises UserError if the run of the version is gone, or if the feature set cannot be opened or has features of
    another detector by now. The caller adds the fix: the option that names the feature set.
    """
    from mlflow.exceptions import MlflowException

    client, shown = tracking.client(), f"models:/{name}/{version}"
    found = client.get_model_version(name, str(version))
    try:
        uri = client.get_run(found.run_id or "none").data.tags["feature_set_uri"]
    except (MlflowException, KeyError) as error:
        raise UserError(f"{shown} has no run that names its feature set") from error
    try:
        features = FeatureSet.open(uri)
    except (UserError, StorageError) as error:
        raise UserError(f"{shown} was trained on {uri}, which cannot be opened from here ({error})") from error
    made_for, fingerprint = found.tags.get("fingerprint"), features.index.fingerprint
    if made_for != fingerprint:
        raise UserError(f"{shown} was made for features of {made_for}, but {uri} has features of {fingerprint} by now")
    return features
