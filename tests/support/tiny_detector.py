"""A fast detector that is named by its import path, as users name theirs: features are mean colours of stripes."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from pipelines.detectors.contract import Regions, fingerprint_of

RED, BLUE = (255, 0, 0), (0, 0, 255)
"""Colours of the photos that some faults concern: red ones, and blue ones in a batch with others."""
_poisoned: list[bool] = []
"""Whether a photo has made this process unusable, as an error of CUDA does."""


@dataclass(frozen=True)
class TinyDetector:
    """Is both the spec and the detector. Regions are `region_range[0]` vertical stripes of the photo."""

    feature_dim: ClassVar[int] = 8
    region_range: ClassVar[tuple[int, int]] = (36, 36)
    class_names: ClassVar[Mapping[int, str]] = {0: "stripe"}

    scale: float = 1.0
    """Factor of the features."""
    seconds: float = 0.0
    """Seconds to sleep for each photo."""
    fault: str = ""
    """Which fault to inject, for tests of the detector contract."""

    def fingerprint(self) -> str:
        return fingerprint_of("tiny", {}, asdict(self))

    def build(self, device: str) -> "TinyDetector":
        if self.fault == "build":
            raise RuntimeError("no weights")
        if self.fault == "build exits":
            sys.exit("no weights")
        return self

    def __call__(self, photos: list[np.ndarray]) -> list[Regions]:
        if self.fault == "nothing":
            return None  # type: ignore[return-value]
        has_red, has_blue = (any(_is_all(photo, colour) for photo in photos) for colour in (RED, BLUE))
        if self.fault == "always dies" or (self.fault == "dies" and (has_red or (has_blue and len(photos) > 1))):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "red raises" and has_red:
            raise RuntimeError("red")
        if self.fault == "red poisons":
            _poisoned.append(has_red)
            if any(_poisoned):
                raise RuntimeError("poisoned")
        if self.fault == "hangs" and has_red:
            time.sleep(600)
        if self.fault == "exits" and has_red:
            sys.exit("red")
        found = [self._stripes(photo) for photo in photos]
        return found[1:] if self.fault == "count" else found

    def _stripes(self, photo: np.ndarray) -> Regions:
        time.sleep(self.seconds)
        count = self.region_range[0]
        height, width = photo.shape[:2]
        edges = np.linspace(0, width, count + 1, dtype=np.float32)
        boxes = np.stack([edges[:-1], np.zeros(count), edges[1:], np.full(count, height)], axis=1).astype(np.float32)
        columns = np.minimum(edges[:-1].astype(int), width - 1)
        features = np.zeros((count, self.feature_dim), np.float32)
        features[:, :3] = photo[:, columns].mean(axis=0, dtype=np.float64) / 255 * self.scale
        if self.fault == "broken":
            raise ZeroDivisionError("broken")
        if self.fault == "wide" and (height, width) == (120, 160):
            raise ZeroDivisionError("wide")
        if self.fault == "outside" or (self.fault == "red outside" and _is_all(photo, RED)):
            boxes[0, 2] = width + 10
        if self.fault == "random":
            features += np.random.default_rng().random(features.shape, dtype=np.float32)
        return Regions(features, boxes, np.zeros(count, np.int64), np.full(count, 0.5, np.float32))


def _is_all(photo: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((photo == colour).all())
