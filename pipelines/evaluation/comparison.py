"""The feature sets on which a challenger and the champion are compared: one, or that of each version's detector."""

from dataclasses import dataclass

from infra.errors import UserError
from infra.registry import champion_version
from infra.source_tree import program
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.models.trained_on import trained_on


@dataclass(frozen=True)
class ComparisonData:
    """The feature sets on which versions are compared."""

    features: FeatureSet
    """That of the challenger, and of a champion that was trained on features of the same detector."""
    champion_features: FeatureSet | None = None
    """That of a champion for another detector; None finds the one that it was trained on."""
    intersect: bool = False
    """Whether photos that only one of the two has are left out; otherwise they are an error."""

    def of_champion(self, tracking: Tracking, name: str, champion: int) -> FeatureSet:
        """Returns the feature set for a champion. Raises UserError if it has to be found and cannot be opened."""
        if self.champion_features is not None:
            return self.champion_features
        tags = tracking.client().get_model_version(name, str(champion)).tags
        if tags.get("fingerprint") == self.features.index.fingerprint:
            return self.features
        return features_of_champion(tracking, name, champion)


def check_champion(tracking: Tracking, name: str, fingerprint: str) -> None:
    """Raises UserError, before a pipeline, if a version for features of this fingerprint could not be compared with the
    champion."""
    champion = champion_version(tracking, name)
    if champion is None:
        return
    if tracking.client().get_model_version(name, str(champion)).tags.get("fingerprint") != fingerprint:
        try:
            features_of_champion(tracking, name, champion)
        except UserError as error:
            raise UserError(f"{error}, after this command with --until evaluate") from error


def features_of_champion(tracking: Tracking, name: str, champion: int) -> FeatureSet:
    """Opens the feature set that a champion was trained on. Raises UserError, with the fix, if that is not possible."""
    try:
        return trained_on(tracking, name, champion)
    except UserError as error:
        raise UserError(f"{error}; give the champion's with --champion-features of {program('promote')}") from error
