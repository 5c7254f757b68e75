"""The detector interface: `DetectorSpec`, `Detector` and `Regions`, and the functions that validate them.

A detector consists of two objects. Its spec is a frozen dataclass of settings that computes the fingerprint, so that a
driver can plan an extraction without loading a model. `spec.build(device)` loads the detector itself on a worker. This
module is light to import.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

REGIONS = 36
"""Regions per photo of detectors with a fixed number (SHAN and SCAN use 36)."""


@dataclass(frozen=True)
class Regions:
    """The R regions of one photo, in the order of the detector's ranking."""

    features: np.ndarray
    """(R, F) float32."""
    boxes: np.ndarray
    """(R, 4) float32, x0 y0 x1 y1 in pixels of the given photo, whose own box is 0 0 W H."""
    classes: np.ndarray
    """(R,) int64, the detector's own class ids (`DetectorSpec.class_names`)."""
    confidences: np.ndarray
    """(R,) float32 in [0, 1]."""
    attributes: np.ndarray | None = None
    """(R,) int64, the most likely attribute of each region, if the detector predicts attributes."""
    attribute_confidences: np.ndarray | None = None
    """(R,) float32 in [0, 1]; set if, and only if, `attributes` is."""


class Detector(Protocol):
    """A loaded detector. It is deterministic, and other photos of a batch affect a photo by rounding error at most."""

    def __call__(self, photos: list[np.ndarray]) -> list[Regions]:
        """Returns the regions of RGB photos, uint8 (H, W, 3) of any size from 1 x 1, in the same order."""
        ...


@runtime_checkable
class DetectorSpec(Protocol):
    """Settings of a detector, picklable. A plugin is a class with these members, given by its import path.

    A spec whose detector sets `Regions.attributes` also has `attribute_names: Mapping[int, str]`, the name of each
    attribute id; for other detectors this member is optional. A spec with settings that are paths or URIs of files
    lists these settings in `files: tuple[str, ...]`, so that a registered model can carry them. If such a setting is a
    folder, `folders: Mapping[str, Sequence[Path]]` maps it to the paths of its files that the detector reads.
    `weights_licence: str` (name or URL, up to 200 characters) is optional, too; model cards show it.
    """

    @property
    def feature_dim(self) -> int:
        """Returns the feature width F."""
        ...

    @property
    def region_range(self) -> tuple[int, int]:
        """Returns the minimum and maximum number of regions per photo; equal if the number is fixed."""
        ...

    @property
    def class_names(self) -> Mapping[int, str]:
        """Returns the name of each class id that can occur in `Regions.classes`."""
        ...

    def fingerprint(self) -> str:
        """Returns `fingerprint_of` the name, the weight files and every setting that affects the results."""
        ...

    def build(self, device: str) -> Detector:
        """Loads the detector on a torch device."""
        ...


def fingerprint_of(name: str, weights: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Returns `<name>-<16 hex digits>`, a hash of everything that determines a detector's results; a valid file name.

    `weights` maps the name of each weight file to its sha256; the values of `settings` must be JSON values.
    """
    payload = {"name": name, "weights": dict(weights), "settings": dict(settings)}
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def check_photo(photo: np.ndarray) -> None:
    """Raises ValueError unless `photo` is RGB uint8 (H, W, 3) with at least one pixel."""
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise ValueError(
            f"photo is {photo.dtype} {photo.shape}; it must be RGB uint8 (H, W, 3), convert it when decoding"
        )


def check_regions(regions: Regions, photo_size: tuple[int, int], spec: DetectorSpec) -> None:
    """Raises ValueError or TypeError, naming the array, if `regions` does not conform to `Regions` and to `spec`.

    `photo_size` is (height, width) in pixels.
    """
    min_regions, max_regions = spec.region_range
    count = len(regions.features)
    if not min_regions <= count <= max_regions:
        raise ValueError(f"features: {count} regions, expected {min_regions} to {max_regions}")
    expected: dict[str, tuple[tuple[int, ...], type]] = {
        "features": ((count, spec.feature_dim), np.float32),
        "boxes": ((count, 4), np.float32),
        "classes": ((count,), np.int64),
        "confidences": ((count,), np.float32),
    }
    if regions.attributes is not None or regions.attribute_confidences is not None:
        expected |= {"attributes": ((count,), np.int64), "attribute_confidences": ((count,), np.float32)}
    for field, (shape, dtype) in expected.items():
        array = getattr(regions, field)
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{field}: {type(array).__name__}, expected an array of {np.dtype(dtype)} {shape}")
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{field}: {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{field}: not all values are finite")
    _check_ids("classes", regions.classes, spec.class_names)
    if regions.attributes is not None:
        _check_ids("attributes", regions.attributes, getattr(spec, "attribute_names", {}))
    height, width = photo_size
    x0, y0, x1, y1 = regions.boxes.T
    if (x0 < 0).any() or (y0 < 0).any() or (x1 > width).any() or (y1 > height).any():
        raise ValueError(f"boxes: some extend outside the photo of {width} x {height} pixels")
    if (x1 <= x0).any() or (y1 <= y0).any():
        raise ValueError("boxes: some have no area")
    for field in ("confidences", "attribute_confidences"):
        values = getattr(regions, field)
        if values is not None and ((values < 0).any() or (values > 1).any()):
            raise ValueError(f"{field}: some are outside [0, 1]")


def _check_ids(field: str, ids: np.ndarray, names: Mapping[int, str]) -> None:
    unknown = set(ids.tolist()) - set(names)
    if unknown:
        raise ValueError(f"{field}: id {min(unknown)} has no name")
