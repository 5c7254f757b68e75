"""Configuration of the promotion criterion."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PromoteConfig:
    """What a challenger must achieve against the champion, in points of recall on a split."""

    split: Literal["val", "test"] = "val"
    """Split on which versions are compared. Every training selects its epoch, and a sweep its best trial, on `val`; no
    selection uses `test` unless versions are promoted on it."""
    margin: float = 0.0
    """Points of rSum (at most 600) that the lower bound of the paired difference must exceed."""
    confidence: float = 0.95
    """Confidence of that one-sided bound: the fraction of bootstrap resamples at or above it."""
    max_drop: float = 3.0
    """Points (of 300) that the recall sum of either direction may lose, however much the other one gains."""

    def __post_init__(self) -> None:
        """Raises ValueError with the field, its value and the constraint."""
        for name in ("margin", "max_drop"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"promote.{name} is {getattr(self, name)}; it must be finite and at least 0")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"promote.confidence is {self.confidence}; it must be at least 0.5 and below 1")
