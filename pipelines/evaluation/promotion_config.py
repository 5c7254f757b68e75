"""When a candidate counts as better."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class PromoteConfig:
    """What a candidate must show against the champion, in points of recall."""

    margin: float = 0.0
    """rSum (of 600) by which it must be better for certain: the lower bound of the difference has to exceed this."""
    confidence: float = 0.95
    """Share of the bootstrap's resamples that lie above that lower bound (one-sided)."""
    max_drop: float = 3.0
    """Points (of 300) by which the sum of text recalls, and that of image recalls, may fall [D]."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        for name in ("margin", "max_drop"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"promote.{name} is {getattr(self, name)}; it must not be negative")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"promote.confidence is {self.confidence}; it must be at least 0.5 and below 1")
