"""How photos become a feature set."""

from dataclasses import dataclass, field
from typing import Any

from infra.storage.open import open_store
from pipelines.datasets.decode import LONGEST_SIDE
from pipelines.detectors import registry
from pipelines.detectors.contract import DetectorSpec

_MOST_PHOTOS = 2**31 // (LONGEST_SIDE * LONGEST_SIDE * 3)


@dataclass(frozen=True)
class ExtractConfig:
    """How photos become a feature set."""

    output: str = "build/features"
    """Root of the object store, a folder or s3://bucket/prefix; each feature set is a folder below it."""
    detector: str = "embedded"
    """`embedded`, `bottom_up`, or your own `module:Class` (pipelines.detectors.contract)."""
    detector_settings: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the detector, such as weights of `bottom_up`. Part of the feature set's identity."""
    detector_actors_min: int = 2
    """Detector processes from the start."""
    detector_actors_max: int = 2
    """Detector processes that Ray Data may grow to while photos wait."""
    detector_cpus: float = 1.0
    """Logical CPUs of a detector process; torch takes as many threads."""
    detector_gpus: float = 0.0
    """GPUs of a detector process, or the fraction of one that it shares; 0 detects on the CPU."""
    detector_batch_size: int = 8
    """Photos that a detector takes at once."""
    photos_per_shard: int = 32
    """Photos of one tar, and of one Ray Data block. About 160 KB a photo in the tar, about 1 MB while it is decoded."""
    max_rejected: float = 0.01
    """Fraction of the photos that may be rejected; the job fails above it."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        for name in ("photos_per_shard", "detector_batch_size", "detector_actors_min"):
            if getattr(self, name) < 1:
                raise ValueError(f"extract.{name} is {getattr(self, name)}; it must be at least 1")
        if self.detector_actors_max < self.detector_actors_min:
            raise ValueError(
                f"extract.detector_actors_max is {self.detector_actors_max}; "
                f"it must be at least extract.detector_actors_min, {self.detector_actors_min}"
            )
        if self.photos_per_shard > _MOST_PHOTOS:
            raise ValueError(
                f"extract.photos_per_shard is {self.photos_per_shard}; it must be at most {_MOST_PHOTOS}, "
                "whose pixels fit in one Arrow column of 2 GiB"
            )
        if self.detector_cpus <= 0:
            raise ValueError(f"extract.detector_cpus is {self.detector_cpus}; it must be positive")
        if self.detector_gpus < 0 or (self.detector_gpus > 1 and self.detector_gpus % 1):
            raise ValueError(
                f"extract.detector_gpus is {self.detector_gpus}; it must be 0, a fraction of one GPU, or a whole number"
            )
        if not 0 <= self.max_rejected <= 1:
            raise ValueError(f"extract.max_rejected is {self.max_rejected}; it must be a fraction from 0 to 1")
        open_store(self.output)
        self.spec()

    @property
    def device(self) -> str:
        """Torch device of a detector process."""
        return "cuda" if self.detector_gpus else "cpu"

    def spec(self) -> DetectorSpec:
        """The detector's spec."""
        return registry.resolve(self.detector, self.detector_settings)
