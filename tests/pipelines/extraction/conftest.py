"""A feature set of made-up photos, for tests of what an extraction finds stored."""

from pathlib import Path

import pytest

from pipelines.datasets.manifest import Manifest
from pipelines.features.feature_set import FeatureSet
from tests.support.feature_sets import manifest, write_set


@pytest.fixture
def photos(tmp_path: Path) -> Manifest:
    """Photos p0 to p11; p0 to p3 and p6 to p9 are in train, and p3 is rejected without having been read."""
    return manifest(tmp_path, 12)


@pytest.fixture
def features(tmp_path: Path, photos: Manifest) -> FeatureSet:
    return write_set(tmp_path, photos)
