"""What every detector promises: photos in, per photo exactly 36 regions out, and a fingerprint. Light to import."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

REGIONS = 36
"""Regions a photo, always (SHAN and SCAN both take 36)."""


@dataclass(frozen=True)
class Regions:
    """The regions of one photo, best first as the detector ranks them."""

    features: np.ndarray
    """(36, F) float32."""
    boxes: np.ndarray
    """(36, 4) float32, x0 y0 x1 y1 in pixels of the original photo, edges between pixels: the whole is 0 0 W H."""
    classes: np.ndarray
    """(36,) int64, the detector's own class ids (`Detector.class_names`)."""
    confidences: np.ndarray
    """(36,) float32 in [0, 1]."""


class Detector(Protocol):
    """A loaded detector. Deterministic; the other photos of a batch change a photo's regions by float noise at most."""

    @property
    def feature_dim(self) -> int:
        """Feature width F."""
        ...

    @property
    def class_names(self) -> Mapping[int, str]:
        """Name of each class id that can occur in `Regions.classes`."""
        ...

    def fingerprint(self) -> str:
        """Hash of the detector's name, its weight files and every setting that changes its numbers."""
        ...

    def __call__(self, photos: list[np.ndarray]) -> list[Regions]:
        """Find the regions of RGB photos, each uint8 (H, W, 3) of any size from 1 x 1 on, in their order."""
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


def check_regions(regions: Regions, photo_size: tuple[int, int], feature_dim: int) -> None:
    """Raise ValueError, naming the array, where `regions` breaks the contract.

    `photo_size` is (height, width) in pixels, `feature_dim` the F that the detector promises.
    """
    wanted = {
        "features": ((REGIONS, feature_dim), np.float32),
        "boxes": ((REGIONS, 4), np.float32),
        "classes": ((REGIONS,), np.int64),
        "confidences": ((REGIONS,), np.float32),
    }
    for field, (shape, dtype) in wanted.items():
        array: np.ndarray = getattr(regions, field)
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{field}: {array.dtype} {array.shape}, wanted {np.dtype(dtype)} {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{field}: not all values are finite")
    height, width = photo_size
    x0, y0, x1, y1 = regions.boxes.T
    if (x0 < 0).any() or (y0 < 0).any() or (x1 > width).any() or (y1 > height).any():
        raise ValueError(f"boxes: some reach outside the photo of {width} x {height} pixels")
    if (x1 <= x0).any() or (y1 <= y0).any():
        raise ValueError("boxes: some have no area")
    if (regions.confidences < 0).any() or (regions.confidences > 1).any():
        raise ValueError("confidences: some are outside [0, 1]")
