"""A tracking store shared by the tests of training, because a new SQLite file takes seconds to set up."""

from pathlib import Path

import pytest

from infra.tracking import Tracking, TrackingConfig, connect


@pytest.fixture(scope="session")
def tracking_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns the tracking URI of a SQLite file."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


@pytest.fixture
def tracking(tracking_file: str, tmp_path: Path) -> Tracking:
    """Returns an empty experiment of the shared store."""
    return connect(TrackingConfig(uri=tracking_file, experiment=str(tmp_path)))
