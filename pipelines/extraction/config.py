"""Settings of an extraction."""

import math
from dataclasses import dataclass, field
from typing import Any

from infra.paths import absolute
from infra.storage.open import open_store
from pipelines.datasets.decode import LONGEST_SIDE
from pipelines.detectors import registry
from pipelines.detectors.contract import DetectorSpec

TASK_CPUS = 0.5
"""Logical CPUs of a task that fetches, hashes or commits: it waits for disks and networks half of the time."""
_MOST_PHOTOS = 2**31 // (LONGEST_SIDE * LONGEST_SIDE * 3)
"""Photos whose decoded pixels fit in one Arrow column."""
CUT_CPUS = TASK_CPUS / 2
"""Logical CPUs of a task that cuts a shard into parts; other than TASK_CPUS, so that Ray Data does not fuse the two."""
EARLIER_PHOTOS_PER_SHARD = 32
"""Photos of a shard by default before `shard_mb`. Sizes by `shard_mb` are multiples of it."""
_MOST_MB = 4000
_BYTES_BESIDE_REGIONS = 4000
"""Bytes of a photo in a tar beside its arrays, about: captions, classes, confidences, headers and padding."""


@dataclass(frozen=True)
class ExtractConfig:
    """Settings of an extraction: photos to a feature set."""

    output: str = "build/features"
    """Root of feature sets, a folder or s3://bucket/prefix. Each feature set is a folder below it."""
    detector: str = "embedded"
    """`embedded`, `bottom_up`, `huggingface`, `huggingface_patches`, or `module:Class` of your own detector
    (pipelines.detectors.contract)."""
    detector_settings: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the detector, such as the weights of `bottom_up`. Settings that change numbers enter the
    fingerprint; weights enter by content."""
    min_detector_actors: int = 2
    """Number of detector processes from the start."""
    max_detector_actors: int = 2
    """Number of detector processes to which Ray Data may scale up while photos wait."""
    detector_cpus: float = 1.0
    """Logical CPUs of a detector process. Torch uses the same number of threads."""
    detector_gpus: float = 0.0
    """GPUs of a detector process, or the fraction of one GPU that it shares. 0 runs the detector on the CPU."""
    detector_batch_size: int = 8
    """Photos per batch of the detector."""
    shard_mb: float = 128.0
    """Approximate size of a tar in MB (10^6 bytes); the number of photos in it follows from the detector's regions. A
    photo of the `embedded` detector takes 0.15 MB."""
    photos_per_shard: int = 0
    """Photos per tar, instead of `shard_mb`; 0 computes it from that."""
    photos_per_part: int = 32
    """Photos that are fetched, detected and committed at once; the parts of a tar are joined when all exist. They
    bound the memory of a worker: a decoded photo takes 3 bytes per pixel, up to 5.3 MB for 1333 x 1333. The stored
    bytes do not depend on it."""
    max_rejected: float = 0.01
    """Fraction of the photos that may be rejected. The job fails as soon as it is exceeded."""
    retry_downloads: bool = False
    """Try again to download photos of web servers that an earlier run rejected because it could not. Photos in
    folders, buckets and tar files that could not be read are tried again in every run."""

    def __post_init__(self) -> None:
        """Makes `output` absolute. Raises ValueError or UserError naming the field and the fix."""
        object.__setattr__(self, "output", absolute(self.output, "extract.output"))
        for name in ("photos_per_part", "detector_batch_size", "min_detector_actors"):
            if getattr(self, name) < 1:
                raise ValueError(f"extract.{name} is {getattr(self, name)}; it must be at least 1")
        if self.max_detector_actors < self.min_detector_actors:
            raise ValueError(
                f"extract.max_detector_actors is {self.max_detector_actors}; "
                f"it must be at least extract.min_detector_actors, {self.min_detector_actors}"
            )
        if self.photos_per_shard < 0:
            raise ValueError(f"extract.photos_per_shard is {self.photos_per_shard}; it must not be negative")
        if not 0 < self.shard_mb <= _MOST_MB:
            raise ValueError(
                f"extract.shard_mb is {self.shard_mb}; it must be positive and at most {_MOST_MB}, so that one request "
                "can write a tar"
            )
        if self.photos_per_shard and self.shard_mb != type(self).shard_mb:
            raise ValueError(
                f"extract.shard_mb is {self.shard_mb}, but has no effect with extract.photos_per_shard; omit one of "
                "the two"
            )
        if self.photos_per_part > _MOST_PHOTOS:
            raise ValueError(
                f"extract.photos_per_part is {self.photos_per_part}; it must be at most {_MOST_PHOTOS}, "
                "whose pixels fit in one Arrow column of 2 GiB"
            )
        if not 0 < self.detector_cpus < math.inf:
            raise ValueError(f"extract.detector_cpus is {self.detector_cpus}; it must be positive")
        if not 0 <= self.detector_gpus < math.inf or (self.detector_gpus > 1 and self.detector_gpus % 1):
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

    def shard_size(self, spec: DetectorSpec) -> int:
        """Returns the number of photos per shard."""
        if self.photos_per_shard:
            return self.photos_per_shard
        regions = spec.region_range[1]
        photo = regions * (2 * spec.feature_dim + 4 * 4) + _BYTES_BESIDE_REGIONS  # float16 features, float32 boxes
        return max(1, round(self.shard_mb * 1e6 / photo / EARLIER_PHOTOS_PER_SHARD)) * EARLIER_PHOTOS_PER_SHARD

    def spec(self) -> DetectorSpec:
        """Returns the detector's spec. Raises ValueError for an unknown detector or an invalid setting."""
        return registry.resolve(self.detector, self.detector_settings)
