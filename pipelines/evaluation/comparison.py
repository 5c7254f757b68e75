"""The feature sets on which a challenger and the champion are compared: one, or that of each version's detector."""

from dataclasses import dataclass

from infra.errors import UserError
from infra.registry import champion_version
from infra.source_tree import program
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.features.pairing import paired_splits
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

    def feature_sets(self, tracking: Tracking, name: str, champion: int | None) -> list[FeatureSet]:
        """Returns that of the challenger, and that of a champion. Raises UserError as `own_features`."""
        return [self.features] if champion is None else [self.features, self.of_champion(tracking, name, champion)]

    def of_champion(self, tracking: Tracking, name: str, champion: int) -> FeatureSet:
        """Returns the feature set for a champion. Raises UserError as `own_features`."""
        fingerprint = self.features.index.fingerprint
        return own_features(tracking, name, champion, fingerprint, self.champion_features) or self.features

    def check(self, tracking: Tracking, name: str, split: str) -> None:
        """Raises UserError, before a training, if its version could not be compared with the champion on `split`."""
        champion = champion_version(tracking, name)
        if champion is not None and (own := self.of_champion(tracking, name, champion)) is not self.features:
            paired_splits([self.features, own], split, self.intersect)


def own_features(
    tracking: Tracking, name: str, champion: int, fingerprint: str, given: FeatureSet | None
) -> FeatureSet | None:
    """Returns the feature set on which a champion is compared with a version for features of `fingerprint`.

    That is `given` if it has features of the champion's detector, None if both have the same detector, and otherwise
    the feature set that the champion was trained on. Raises UserError if that cannot be opened, or if `given` has
    features of a third detector.
    """
    made_for = tracking.client().get_model_version(name, str(champion)).tags.get("fingerprint")
    if given is not None and given.index.fingerprint == made_for:
        return given
    if made_for == fingerprint:
        return None
    if given is not None:
        require_features_of_champion(tracking, name, given)
    return features_of_champion(tracking, name, champion)


def require_features_of_champion(tracking: Tracking, name: str, given: FeatureSet) -> None:
    """Raises UserError if there is a champion, and features of another detector are given for it."""
    champion = champion_version(tracking, name)
    if champion is None:
        return
    made_for = tracking.client().get_model_version(name, str(champion)).tags.get("fingerprint")
    if given.index.fingerprint != made_for:
        raise UserError(
            f"models:/{name}/{champion} was made for features of {made_for}, but --champion-features {given.uri} has "
            f"features of {given.index.fingerprint}; give a feature set of the champion's detector, or omit it"
        )


def features_of_champion(tracking: Tracking, name: str, champion: int) -> FeatureSet:
    """Opens the feature set that a champion was trained on. Raises UserError, with the fix, if that is not possible."""
    try:
        return trained_on(tracking, name, champion)
    except UserError as error:
        raise UserError(
            f"{error}; give the champion's with --champion-features, an option of {program('promote')} and "
            f"{program('pipeline')}"
        ) from error
