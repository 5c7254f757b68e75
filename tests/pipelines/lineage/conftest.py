"""A champion with everything that it was made from, intact or for a test that changes it."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.registry import set_champions
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.detectors import registry
from pipelines.features.feature_set import FeatureSet
from pipelines.lineage.report import Lineage
from pipelines.lineage.trace import trace
from tests.support import feature_sets
from tests.support.registered import write_plugin
from tests.support.small_models import model, register_model

KINDS = ["manifest", "detector", "feature set", "run", "version"]


@dataclass(frozen=True)
class Chain:
    """A feature set of a plugin detector, and a version that was trained on it and carries the detector."""

    folder: Path
    features: FeatureSet
    tracking: Tracking
    run_id: str

    def trace(self, uri: str = "models:/m/1") -> Lineage:
        return trace(uri, TrackingConfig(uri=self.tracking.uri, experiment="not that of the run"))

    def stored(self, name: str) -> Path:
        """Returns the file of that name in the stored model."""
        (path,) = (self.folder / "artifacts" / "models").rglob(name)
        return path


@pytest.fixture(scope="package")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    detector = write_plugin(folder / "plugin")
    sys.path.insert(0, str(folder / "plugin"))
    fingerprint = registry.resolve(detector.name, detector.settings).fingerprint()
    photos = feature_sets.manifest(folder, 12)
    features = feature_sets.write_set(folder, photos, detector=detector, fingerprint=fingerprint)
    tracking = connect(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db"))
    register_model(tracking, "m", model(features), features, folder / "bundle")
    set_champions(tracking, "m", [1])
    run_id = tracking.client().get_model_version("m", "1").run_id
    yield Chain(folder, features, tracking, run_id)
    sys.path.remove(str(folder / "plugin"))
    for name in [name for name in sys.modules if name.startswith("striped_detector")]:
        del sys.modules[name]


@pytest.fixture
def chain(intact: Chain, tmp_path: Path) -> Iterator[Chain]:
    """The chain for a test that changes it; files, tags and versions are restored afterwards."""
    client, files = intact.tracking.client(), ("set", "plugin", "artifacts")
    run_tags, version_tags = client.get_run(intact.run_id).data.tags, client.get_model_version("m", "1").tags
    for name in files:
        shutil.copytree(intact.folder / name, tmp_path / name)
    yield intact
    for name in files:
        shutil.rmtree(intact.folder / name, ignore_errors=True)
        shutil.copytree(tmp_path / name, intact.folder / name)
    if client.get_run(intact.run_id).info.lifecycle_stage == "deleted":
        client.restore_run(intact.run_id)
    for key, value in run_tags.items():
        client.set_tag(intact.run_id, key, value)
    for key, value in version_tags.items():
        client.set_model_version_tag("m", "1", key, value)
    for version in client.search_model_versions("name = 'm'"):
        if str(version.version) != "1":
            client.delete_model_version("m", version.version)
    set_champions(intact.tracking, "m", [1])


def found(lineage: Lineage, state: str) -> list[tuple[str, str]]:
    """Returns kind and finding of the checks with a state."""
    return [(node.kind, check.finding) for node in lineage.nodes for check in node.checks if check.state == state]


def rewrite(path: Path, old: str, new: str) -> None:
    """Replaces a text in a file, which must contain it."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
