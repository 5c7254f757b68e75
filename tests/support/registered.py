"""Registered models, their detectors, and processes that use them without the project."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import requests
import torch

from infra.model_artifacts import PyfuncPackage
from infra.source_tree import PACKAGES
from pipelines.detectors.embedded_config import EmbeddedConfig
from pipelines.features.index import DetectorDescription
from pipelines.models.config import RegisterConfig
from pipelines.models.detector_package import DetectorPackage, detector_package
from pipelines.models.matcher import RegisteredMatcher
from pipelines.models.package import package_model
from shan_model.bundle import save_bundle
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support.servers import free_ports

EMBEDDED = DetectorDescription("embedded", {}, 2048, (36, 36), EmbeddedConfig.class_names, {})
IMPORTED = DetectorDescription("precomputed-scan", {}, 8, (3, 3), {}, {})
CAPTIONS = ("a dog on a beach", "two men", "a red square and a blue circle", "a dog")


def tiny_network(region_dim: int = 2048, **fields: object) -> SHAN:
    """Returns an untrained network, narrow, with the words of CAPTIONS."""
    torch.manual_seed(0)
    config = ModelConfig(region_dim=region_dim, joint_dim=16, word_dim=12, **fields)  # type: ignore[arg-type]
    return SHAN(config, Vocabulary.build(CAPTIONS)).eval()


def embedded_detector() -> DetectorPackage:
    """Returns the package of the `embedded` detector with its defaults."""
    return detector_package(EMBEDDED, EmbeddedConfig().fingerprint(), RegisterConfig())


def imported_features() -> DetectorPackage:
    """Returns the package of a feature set that no detector of the project made."""
    return detector_package(IMPORTED, "precomputed-0123", RegisterConfig())


def matcher(folder: Path, shan: SHAN, detector: DetectorPackage) -> RegisteredMatcher:
    """Returns a registered model in this process, with the project's own modules."""
    save_bundle(shan, folder / "bundle")
    return RegisteredMatcher(
        {"bundle": str(folder / "bundle"), "detector": str(detector.write(folder / "detector"))}, {}
    )


def save_version(folder: Path, shan: SHAN, detector: DetectorPackage) -> Path:
    """Writes the folder that MLflow stores for a version, and returns it."""
    save_bundle(shan, folder / "bundle")
    package = package_model(folder / "bundle", shan.config, {"dataset": "tiny"}, detector, folder / "parts")
    return save_package(package, folder / "model")


def save_package(package: PyfuncPackage, model: Path) -> Path:
    """Writes a package as `infra.model_artifacts.register` does, but to a folder, and returns it."""
    import mlflow

    mlflow.pyfunc.save_model(str(model), **package.arguments())
    return model


def without_project(folder: Path) -> dict[str, str]:
    """Returns an environment in which importing a package of the project fails.

    The tests' own environment has the project installed, so packages of its names that raise are written below
    `folder` and found first.
    """
    for package in (*PACKAGES, "tests"):
        (folder / "no_project" / package).mkdir(parents=True, exist_ok=True)
        text = f"raise ImportError('{package} of the project was imported')\n"
        (folder / "no_project" / package / "__init__.py").write_text(text)
    return os.environ | {"PYTHONPATH": str(folder / "no_project")}


def run_consumer(folder: Path, code: str, *arguments: str, **environment: str) -> str:
    """Runs code in a process that starts in `folder` and cannot import the project; returns its output."""
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=without_project(folder) | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@contextmanager
def serving(python: str | Path, model: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Serves the model of a URI by `mlflow models serve` of a Python; yields the address of its predictions."""
    (port,) = free_ports(1)
    command = f"-m mlflow models serve -m {model} -h 127.0.0.1 -p {port} --env-manager local"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [python, *command.split()],
            cwd=folder,
            env=environment | {"PATH": f"{Path(python).parent}:{os.environ['PATH']}"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        give_up_at = time.monotonic() + 120
        while time.monotonic() < give_up_at and process.poll() is None:
            with suppress(requests.ConnectionError):
                if requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok:
                    break
            time.sleep(0.2)
        else:
            raise RuntimeError((folder / "log").read_text()[-2000:])
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


PLUGIN = "striped_detector.stripes:Stripes"
PLUGIN_CODE = '''
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipelines.detectors.contract import Regions, fingerprint_of
from .names import NAMES


@dataclass(frozen=True)
class Stripes:
    """Three stripes; features are the mean colour times the number in the file `weights`.

    Fails on 13 x 13 pixels, exits on 14 x 14.
    """

    files: ClassVar = ("weights",)
    feature_dim: ClassVar[int] = 8
    region_range: ClassVar = (3, 3)
    class_names: ClassVar = NAMES
    weights: str

    def fingerprint(self):
        return fingerprint_of("stripes", {"weights": Path(self.weights).read_text()}, {})

    def build(self, device):
        return self

    def __call__(self, photos):
        if any(photo.shape[:2] == (13, 13) for photo in photos):
            raise ZeroDivisionError("thirteen")
        if any(photo.shape[:2] == (14, 14) for photo in photos):
            sys.exit("fourteen")
        return [self._regions(photo) for photo in photos]

    def _regions(self, photo):
        height, width = photo.shape[:2]
        edges = np.linspace(0, width, 4, dtype=np.float32)
        boxes = np.stack([edges[:-1], np.zeros(3), edges[1:], np.full(3, height)], axis=1).astype(np.float32)
        features = np.zeros((3, 8), np.float32)
        features[:, :3] = photo.mean(axis=(0, 1)) * float(Path(self.weights).read_text())
        features[:, 3] = (0, 1, 2)
        return Regions(features, boxes, np.zeros(3, np.int64), np.full(3, 0.5, np.float32))
'''


def write_plugin(folder: Path, weight: str = "2.0") -> DetectorDescription:
    """Writes the package of a detector plugin and its weights into `folder`; returns the detector's description."""
    package = folder / "striped_detector"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "names.py").write_text('NAMES = {0: "stripe"}\n')
    (package / "stripes.py").write_text(PLUGIN_CODE)
    (folder / "weights.txt").write_text(weight)
    return DetectorDescription(PLUGIN, {"weights": str(folder / "weights.txt")}, 8, (3, 3), {0: "stripe"}, {})
