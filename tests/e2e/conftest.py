"""The demo, run once for all tests of the pipeline."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.features.feature_set import FeatureSet
from tests.support.commands import run_command, run_here

NAME = "shan-scenes"
"""The model that the demo registers."""
SCENES = ["--scenes.train=120", "--scenes.val=40", "--scenes.test=60"]
PHOTOS = 220


@dataclass(frozen=True)
class Demo:
    """A finished demo: rendered scenes, a feature set, a training, a registered model and its champion."""

    folder: Path
    output: str

    @property
    def features(self) -> FeatureSet:
        (index,) = self.folder.glob("build/features/*/index.json")
        return FeatureSet.open(str(index.parent))

    @property
    def tracking(self) -> Tracking:
        return connect(TrackingConfig(uri=f"sqlite:///{self.folder}/build/mlflow/mlflow.db"))

    @property
    def model(self) -> str:
        """URI of the champion."""
        return f"models:/{NAME}@champion"

    def run(self, *arguments: str) -> str:
        """Runs a command in the demo's folder and on the Ray session of the tests, and returns its output."""
        return run_here(self.folder, *arguments)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo as `make demo` runs it, in a process of its own, with the settings of its preset but half the scenes."""
    folder = tmp_path_factory.mktemp("demo")
    return Demo(folder, run_command(folder, "jobs.quickstart", *SCENES))
