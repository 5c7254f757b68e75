"""Detectors by name. Imports nothing heavy: a driver plans with fingerprints and leaves loading to its workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from infra.errors import UserError
from pipelines.detectors.coco import COCO_NAMES
from pipelines.detectors.contract import Detector
from pipelines.detectors.embedded_config import EmbeddedConfig


@dataclass(frozen=True)
class _Entry:
    feature_dim: int
    class_names: Mapping[int, str]
    fingerprint: Callable[[], str]
    build: Callable[[str], Detector]


def _build_embedded(device: str) -> Detector:
    from pipelines.detectors.embedded import Embedded  # torch: only where a detector is loaded

    return Embedded(EmbeddedConfig(), device)


_DETECTORS = {
    "embedded": _Entry(EmbeddedConfig.feature_dim, COCO_NAMES, EmbeddedConfig().fingerprint, _build_embedded),
}


def names() -> list[str]:
    """List the known detectors."""
    return sorted(_DETECTORS)


def feature_dim(name: str) -> int:
    """Width F of the features of detector `name`."""
    return _entry(name).feature_dim


def class_names(name: str) -> dict[int, str]:
    """Names of the class ids that detector `name` gives (a copy)."""
    return dict(_entry(name).class_names)


def fingerprint(name: str) -> str:
    """Fingerprint of detector `name` from its pinned constants; equals that of the built detector."""
    return _entry(name).fingerprint()


def build(name: str, device: str = "cpu") -> Detector:
    """Load detector `name` on a torch device; raises UserError for an unknown name or a changed weight file."""
    return _entry(name).build(device)


def _entry(name: str) -> _Entry:
    if name not in _DETECTORS:
        raise UserError(f"unknown detector {name!r}: choose one of {', '.join(names())}")
    return _DETECTORS[name]
