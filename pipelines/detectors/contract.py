"""What every detector promises: photos in, regions with features out, and a fingerprint. Light to import.

A detector is two things. Its **spec** is a frozen dataclass of settings: light, made on any machine, and it knows the
fingerprint, so a driver plans without a model. `spec.build(device)` loads the **detector**, where photos are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

REGIONS = 36
"""Regions a photo where a detector gives a fixed number (SHAN and SCAN both take 36)."""


@dataclass(frozen=True)
class Regions:
    """The R regions of one photo, best first as the detector ranks them."""

    features: np.ndarray
    """(R, F) float32."""
    boxes: np.ndarray
    """(R, 4) float32, x0 y0 x1 y1 in pixels of the photo given, edges between pixels: the whole is 0 0 W H."""
    classes: np.ndarray
    """(R,) int64, the detector's own class ids (`DetectorSpec.class_names`)."""
    confidences: np.ndarray
    """(R,) float32 in [0, 1]."""
    attributes: np.ndarray | None = None
    """(R,) int64, the most likely attribute of each region, where the detector knows attributes."""
    attribute_confidences: np.ndarray | None = None
    """(R,) float32 in [0, 1]; given exactly when `attributes` are."""


class Detector(Protocol):
    """A loaded detector. Deterministic; the other photos of a batch change a photo's regions by float noise at most."""

    def __call__(self, photos: list[np.ndarray]) -> list[Regions]:
        """Find the regions of RGB photos, each uint8 (H, W, 3) of any size from 1 x 1 on, in their order."""
        ...


@runtime_checkable
class DetectorSpec(Protocol):
    """Settings of a detector, picklable. A user's own is a class with these members, given by its import path."""

    @property
    def feature_dim(self) -> int:
        """Feature width F."""
        ...

    @property
    def region_range(self) -> tuple[int, int]:
        """Fewest and most regions a photo; equal where the number is fixed."""
        ...

    @property
    def class_names(self) -> Mapping[int, str]:
        """Name of each class id that can occur in `Regions.classes`."""
        ...

    def fingerprint(self) -> str:
        """`fingerprint_of` the detector's name, its weight files and every setting that changes its numbers."""
        ...

    def build(self, device: str) -> Detector:
        """Load the detector on a torch device."""
        ...


def fingerprint_of(name: str, weights: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Hash what decides a detector's numbers into `<name>-<16 hex digits>`, safe as a file name.

    `weights` maps a weight file's name to its sha256; `settings` must be plain JSON values.
    """
    told = {"name": name, "weights": dict(weights), "settings": dict(settings)}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def check_photo(photo: np.ndarray) -> None:
    """Raise ValueError unless `photo` is RGB uint8 (H, W, 3) with at least one pixel."""
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise ValueError(
            f"a photo must be RGB uint8 (H, W, 3), not {photo.dtype} {photo.shape}: convert it when decoding"
        )


def check_regions(regions: Regions, photo_size: tuple[int, int], spec: DetectorSpec) -> None:
    """Raise ValueError or TypeError, naming the array, where `regions` breaks the contract.

    `photo_size` is (height, width) in pixels; widths and counts are those that `spec` promises.
    """
    fewest, most = spec.region_range
    count = len(regions.features)
    if not fewest <= count <= most:
        raise ValueError(f"features: {count} regions, wanted {fewest} to {most}")
    wanted: dict[str, tuple[tuple[int, ...], type]] = {
        "features": ((count, spec.feature_dim), np.float32),
        "boxes": ((count, 4), np.float32),
        "classes": ((count,), np.int64),
        "confidences": ((count,), np.float32),
    }
    if regions.attributes is not None or regions.attribute_confidences is not None:
        wanted |= {"attributes": ((count,), np.int64), "attribute_confidences": ((count,), np.float32)}
    for field, (shape, dtype) in wanted.items():
        array = getattr(regions, field)
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{field}: {type(array).__name__}, wanted an array of {np.dtype(dtype)} {shape}")
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{field}: {array.dtype} {array.shape}, wanted {np.dtype(dtype)} {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{field}: not all values are finite")
    _check_ids("classes", regions.classes, spec.class_names)
    if regions.attributes is not None:
        _check_ids("attributes", regions.attributes, getattr(spec, "attribute_names", {}))
    height, width = photo_size
    x0, y0, x1, y1 = regions.boxes.T
    if (x0 < 0).any() or (y0 < 0).any() or (x1 > width).any() or (y1 > height).any():
        raise ValueError(f"boxes: some reach outside the photo of {width} x {height} pixels")
    if (x1 <= x0).any() or (y1 <= y0).any():
        raise ValueError("boxes: some have no area")
    for field in ("confidences", "attribute_confidences"):
        values = getattr(regions, field)
        if values is not None and ((values < 0).any() or (values > 1).any()):
            raise ValueError(f"{field}: some are outside [0, 1]")


def _check_ids(field: str, ids: np.ndarray, names: Mapping[int, str]) -> None:
    strange = set(ids.tolist()) - set(names)
    if strange:
        raise ValueError(f"{field}: {min(strange)} has no name")
