"""When a rejection that the tags of a version record still holds. `test_promote.py` writes and reads them in MLflow."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.evaluation.criterion import thresholds
from pipelines.evaluation.decision_tags import is_rejected, rejection_holds
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.features.feature_set import FeatureSet
from tests.support import feature_sets

CONFIG = PromoteConfig()


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder: Path = tmp_path_factory.mktemp("features")
    return feature_sets.write_set(folder, feature_sets.manifest(folder, 12))


def rejected(*feature_sets: FeatureSet, photos: str = "all") -> dict[str, str]:
    """Returns the tags of a version that was rejected against version 2, or, given one set, the random baseline."""
    tags = {"decision": "rejected", "compared_with": "random baseline", "split": "val", "precision": "fp32"}
    tags |= {"photos": photos, "feature_set": feature_sets[0].pinned_uri}
    if len(feature_sets) == 2:
        tags |= {"compared_with": "2", "champion_feature_set": feature_sets[1].pinned_uri}
    applied = thresholds(CONFIG, has_champion=len(feature_sets) == 2)
    tags |= {name: f"{value:.4f}" for name, value in applied.items()}
    return {f"promotion.{name}": value for name, value in tags.items()}


def extended(features: FeatureSet) -> FeatureSet:
    """Returns another snapshot of a feature set."""
    return replace(features, index=replace(features.index, feature_set="0" * 64))


def holds(
    tags: dict[str, str],
    *feature_sets: FeatureSet,
    champion: int | None = 2,
    intersect: bool = False,
    precision: str = "fp32",
    **config: object,
) -> bool:
    settings = replace(CONFIG, **config)  # type: ignore[arg-type]
    return rejection_holds(tags, champion, feature_sets, intersect, settings, precision)


def test_a_rejection_holds_against_the_same_champion(features: FeatureSet):
    tags = rejected(features, features)
    assert holds(tags, features, features)
    assert not holds(tags, features, features, champion=3)
    assert not holds(tags, features, champion=None)


def test_a_rejection_by_the_random_baseline_has_one_threshold(features: FeatureSet):
    assert holds(rejected(features), features, champion=None, margin=5.0)
    assert not holds(rejected(features), features, champion=None, confidence=0.5)


@pytest.mark.parametrize("change", [{"margin": 5.0}, {"split": "test"}, {"precision": "bf16"}])
def test_a_rejection_ends_with_the_settings(features: FeatureSet, change: dict[str, object]):
    assert not holds(rejected(features, features), features, features, **change)  # type: ignore[arg-type]


def test_a_rejection_ends_with_the_features_of_either_version(features: FeatureSet):
    tags = rejected(features, features)
    assert not holds(tags, extended(features), features)
    assert not holds(tags, features, extended(features))


def test_a_rejection_on_common_photos_needs_intersect(features: FeatureSet):
    tags = rejected(features, features, photos="on the 25 photos that both feature sets have, of 25 and 30")
    assert holds(tags, features, features, intersect=True)
    assert not holds(tags, features, features)
    assert holds(rejected(features, features), features, features, intersect=True)


def test_a_rejection_without_recorded_photos_ends(features: FeatureSet):
    tags = rejected(features, features)
    del tags["promotion.photos"]
    assert not holds(tags, features, features)


@pytest.mark.parametrize("tags", [{}, {"promotion.decision": "promoted"}])
def test_only_a_rejection_is_one(tags: dict[str, str]):
    assert not is_rejected(tags)
    assert is_rejected({"promotion.decision": "rejected"})
