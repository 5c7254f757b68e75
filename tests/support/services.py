"""A registered model with its detector, indexes of two versions of it, and requests to a service of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests

from infra.registry import set_champions
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import DetectorDescription
from pipelines.search.index_build import IndexBuild
from pipelines.search.index_commands import load_version
from tests.support.feature_sets import manifest, write_photos, write_set
from tests.support.indexes import build_here, network
from tests.support.small_models import register_model
from tests.support.tiny_detector import TinyDetector

NAME = "served"
DETECTOR = "tests.support.tiny_detector:TinyDetector"


@dataclass(frozen=True)
class Served:
    """What a service can serve."""

    config: TrackingConfig
    tracking: Tracking
    features: FeatureSet
    root: Path
    """Below it are the indexes."""

    def register(self, version: int) -> None:
        """Registers the next version, an untrained network of its own."""
        shan = network(self.features, seed=version)
        assert register_model(self.tracking, NAME, shan, self.features, self.root / f"bundle-{version}") == version

    def index(self, version: int) -> IndexBuild:
        """Builds the index of a version."""
        return build_here(
            load_version(f"models:/{NAME}/{version}", self.config), [self.features], self.root / "indexes"
        )

    def promote(self, *versions: int) -> None:
        """Makes the last version the champion."""
        set_champions(self.tracking, NAME, versions)


def served_models(folder: Path, photos: int = 60) -> Served:
    """Registers version 1, whose detector is one that Ray's workers can import, and makes it the champion."""
    tracking = connect(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db"))
    spec = TinyDetector()
    description = DetectorDescription(DETECTOR, asdict(spec), spec.feature_dim, (3, 36), dict(spec.class_names), {})
    made = manifest(folder, photos)
    write_photos(made)
    features = write_set(folder, made, detector=description, fingerprint=spec.fingerprint())
    served = Served(TrackingConfig(uri=tracking.uri), tracking, features, folder)
    served.register(1)
    served.promote(1)
    return served


def ask(
    url: str, body: bytes | Mapping[str, Any] | None = None, timeout_s: float = 30, **headers: str
) -> tuple[int, Any, Mapping[str, str]]:
    """Sends a request, POST with a body and else GET. Returns status, body (parsed if it is JSON) and headers."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    if body is None:
        response = requests.get(url, headers=named, timeout=timeout_s)
    elif isinstance(body, bytes):
        response = requests.post(url, data=body, headers=named, timeout=timeout_s)
    else:
        response = requests.post(url, json=body, headers=named, timeout=timeout_s)
    is_json = "json" in response.headers.get("Content-Type", "")
    return response.status_code, response.json() if is_json else response.content, response.headers
