"""The demo, run once for all tests of the pipeline."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.features.feature_set import FeatureSet
from tests.support.commands import run_command

NAME = "shan-scenes"
"""The model that the demo registers."""


@dataclass(frozen=True)
class Demo:
    """A finished `make demo`: rendered scenes, a feature set, a training, a registered model and its champion."""

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

    def run(self, *arguments: str, code: int = 0) -> str:
        """Runs `python -m ARGUMENTS` in the demo's folder and checks its exit code.

        Returns its output, or its errors where `code` is not 0.
        """
        return run_command(self.folder, *arguments, code=code)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo as `make demo` runs it, with the settings of its preset."""
    folder = tmp_path_factory.mktemp("demo")
    return Demo(folder, run_command(folder, "jobs.quickstart"))
