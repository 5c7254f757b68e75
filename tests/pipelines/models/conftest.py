"""A detector plugin that this process can import, a model of its features, and a version with a bundle of 0.2."""

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.detectors import registry
from pipelines.features.index import DetectorDescription
from pipelines.models.config import RegisterConfig
from pipelines.models.detector_package import DetectorPackage, detector_package
from pipelines.models.images import read_image
from pipelines.models.matcher import RegisteredMatcher
from pipelines.models.package import package_model
from shan_model.bundle import load_bundle
from tests.support import ROOT
from tests.support.registered import (
    CAPTIONS,
    imported_features,
    matcher,
    save_package,
    tiny_network,
    write_plugin,
)

FIXTURE = ROOT / "tests" / "fixtures" / "0.2" / "model"
"""A bundle, region features, captions, and the scores that 0.2 computed from them. They are never written again:
later releases have to read them.
"""
SENTENCES = [*CAPTIONS, "unknown words"]


def png(colour: tuple[int, int, int], side: int = 12) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [png((200, 10, 30)), png((0, 120, 30)), png((70, 70, 220))]


@dataclass(frozen=True)
class Plugin:
    """A detector plugin, in a folder that is on `sys.path`."""

    folder: Path
    description: DetectorDescription
    fingerprint: str

    def package(self, mode: str) -> DetectorPackage:
        """Returns what a version stores of it."""
        return detector_package(self.description, self.fingerprint, RegisterConfig(mode))  # type: ignore[arg-type]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugin]:
    description = write_plugin(tmp_path / "plugin")
    monkeypatch.syspath_prepend(str(tmp_path / "plugin"))
    spec = registry.resolve(description.name, description.settings)
    yield Plugin(tmp_path / "plugin", description, spec.fingerprint())
    for name in [name for name in sys.modules if name.startswith("striped_detector")]:
        del sys.modules[name]


@pytest.fixture
def model(plugin: Plugin, tmp_path: Path) -> RegisteredMatcher:
    return matcher(tmp_path / "model", tiny_network(8), plugin.package("reference"))


def all_pairs() -> pd.DataFrame:
    return pd.DataFrame([{"image": image, "caption": caption} for image in IMAGES for caption in SENTENCES])


def regions_of(model: RegisteredMatcher, images: list[bytes]) -> np.ndarray:
    """Returns the features of images by the detector itself."""
    model.detector.require("cpu")
    return np.stack([found.features_RF for found in model.detector([read_image(image) for image in images], "cpu")])


@pytest.fixture
def registered(tmp_path: Path) -> Path:
    """Writes the folder that MLflow stores for a version."""
    bundle = FIXTURE / "bundle"
    lineage = {"fingerprint": "made-up-0123"}
    package = package_model(bundle, load_bundle(bundle).config, lineage, imported_features(), tmp_path / "parts")
    return save_package(package, tmp_path / "model")
