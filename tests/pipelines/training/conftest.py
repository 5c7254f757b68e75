"""A small training, and a tracking store that the tests share: a new SQLite file takes seconds to set up."""

from pathlib import Path

import pytest

from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.features.feature_set import FeatureSet
from pipelines.training.config import TrainConfig
from pipelines.training.inputs import TrainingInputs, resolve_inputs
from pipelines.training.setup import TrainingSetup
from shan_model.config import ModelConfig
from tests.support import feature_sets


@pytest.fixture(scope="session")
def tracking_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns the tracking URI of a SQLite file."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


@pytest.fixture
def tracking(tracking_file: str, tmp_path: Path) -> Tracking:
    """Returns an empty experiment of the shared store."""
    return connect(TrackingConfig(uri=tracking_file, experiment=str(tmp_path)))


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12))


@pytest.fixture
def setup(tmp_path: Path) -> TrainingSetup:
    return TrainingSetup(
        model=ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8, word_dim=4),
        train=TrainConfig(batch_size=4, output=str(tmp_path / "runs")),
        tracking=TrackingConfig(uri="http://user:secret@host:5000"),
    )


@pytest.fixture
def inputs(features: FeatureSet, setup: TrainingSetup) -> TrainingInputs:
    return resolve_inputs(features, "m", setup)
