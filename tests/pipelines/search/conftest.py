"""A feature set of 59 photos, and its index by an untrained SHAN."""

import shutil
from pathlib import Path

import pytest

from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel
from pipelines.search.index_build import IndexBuild
from tests.support.indexes import build_here, loaded
from tests.support.small_models import small_set


@pytest.fixture(scope="session")
def indexed_features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("indexed"), 60)


@pytest.fixture(scope="session")
def indexed_model(indexed_features: FeatureSet, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded(tmp_path_factory.mktemp("model"), indexed_features)


@pytest.fixture(scope="session")
def built(
    indexed_model: LoadedModel, indexed_features: FeatureSet, tmp_path_factory: pytest.TempPathFactory
) -> IndexBuild:
    """The finished index, which tests must not change."""
    return build_here(indexed_model, [indexed_features], tmp_path_factory.mktemp("indexes"))


@pytest.fixture
def copy(built: IndexBuild, tmp_path: Path) -> Path:
    """A copy of the index, which a test may change."""
    return Path(shutil.copytree(built.store.uri, tmp_path / "index"))
