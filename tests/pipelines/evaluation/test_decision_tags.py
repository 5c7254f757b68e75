"""When a rejection that the tags of a version record still holds. `test_promote.py` writes and reads them in MLflow."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.evaluation.criterion import thresholds
from pipelines.evaluation.decision_tags import decision_holds
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.features.feature_set import FeatureSet
from tests.support import feature_sets

CONFIG = PromoteConfig()


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder: Path = tmp_path_factory.mktemp("features")
    return feature_sets.write_set(folder, feature_sets.manifest(folder, 12))


def rejected(features: FeatureSet, compared_with: str) -> dict[str, str]:
    """Returns the tags of a version that was rejected."""
    tags = {"decision": "rejected", "compared_with": compared_with, "feature_set": features.pinned_uri, "split": "val"}
    limits = {name: f"{value:.4f}" for name, value in thresholds(CONFIG).items()}
    return {f"promotion.{name}": value for name, value in (tags | limits).items()}


def test_a_rejection_holds_against_the_same_champion(features: FeatureSet):
    tags = rejected(features, "2")
    assert decision_holds(tags, 2, features, CONFIG)
    assert not decision_holds(tags, 3, features, CONFIG)
    assert not decision_holds(tags, None, features, CONFIG)


def test_a_rejection_by_the_random_baseline_has_no_thresholds(features: FeatureSet):
    tags = rejected(features, "random baseline")
    assert decision_holds(tags, None, features, replace(CONFIG, margin=5.0))


@pytest.mark.parametrize("change", [{"margin": 5.0}, {"split": "test"}])
def test_a_rejection_ends_with_the_settings(features: FeatureSet, change: dict[str, object]):
    assert not decision_holds(rejected(features, "2"), 2, features, replace(CONFIG, **change))


def test_a_rejection_ends_with_the_features(features: FeatureSet):
    assert not decision_holds(rejected(features, "2") | {"promotion.feature_set": "other"}, 2, features, CONFIG)


@pytest.mark.parametrize("tags", [{}, {"promotion.decision": "promoted"}])
def test_only_a_rejection_holds(features: FeatureSet, tags: dict[str, str]):
    assert not decision_holds(tags, 2, features, CONFIG)
