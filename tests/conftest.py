"""Shared fixtures: real photos, one Ray session, an S3 server, a tracking store."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.cluster import ClusterConfig, connect
from infra.tracking import Tracking, TrackingConfig
from infra.tracking import connect as connect_tracking
from tests.support import ROOT
from tests.support.photos import Photos, flickr_photos, skimage_photos
from tests.support.servers import S3Server, aws_environment, mlflow_server, seaweed

FLICKR = ROOT.parent / "shared" / "data" / "flickr8k_mini"


@pytest.fixture(autouse=True)
def _own_tracking_uri() -> Iterator[None]:
    """MLflow writes the store that was set last into the environment, from which commands take their default."""
    yield
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def real_photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """24 real photos: of Flickr8k where the team's shared folder is beside the checkout, else scikit-image's."""
    folder = tmp_path_factory.mktemp("photos")
    return flickr_photos(FLICKR, folder) if FLICKR.is_dir() else skimage_photos(folder)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """The one Ray session of the test process."""
    import ray

    os.environ["RAY_AUTH_MODE"] = "disabled"
    connect(ClusterConfig(local_cpus=4, local_object_store_mb=150))
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The one S3 server of the test process; AWS clients find it by the environment."""
    with seaweed(tmp_path_factory.mktemp("s3")) as server, aws_environment(server.environment()):
        yield server


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The one MLflow server of the test process."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server.uri


@pytest.fixture
def tracking(tmp_path: Path) -> Tracking:
    """A tracking store of its own, on SQLite."""
    return connect_tracking(TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"))


@pytest.fixture
def karpathy(tmp_path: Path):
    """Writes a Karpathy JSON of (filename, split, captions) rows and returns its path."""

    def write(rows: list[tuple[str, str, list[str]]], name: str = "tiny") -> Path:
        images = [
            {"filename": file, "split": split, "sentences": [{"raw": caption} for caption in captions]}
            for file, split, captions in rows
        ]
        path = tmp_path / f"dataset_{name}.json"
        path.write_text(json.dumps({"dataset": name, "images": images}))
        return path

    return write
