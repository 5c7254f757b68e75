"""A detector plugin that this process can import."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.detectors import registry
from pipelines.features.index import DetectorDescription
from pipelines.models.config import RegisterConfig
from pipelines.models.detector_package import DetectorPackage, detector_package
from tests.support.registered import write_plugin


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
