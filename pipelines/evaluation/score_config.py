"""Configuration of scoring."""

from dataclasses import dataclass
from typing import Literal

from infra.paths import local_path


@dataclass(frozen=True)
class ScoreConfig:
    """How score matrices are computed and stored."""

    num_actors: int = 0
    """Number of Ray actors, with one CPU each, that share the photos; 0 scores in this process. On a fixed cluster with
    fewer CPUs, as many actors run as fit."""
    actor_gpus: float = 0.0
    """GPUs of an actor: 1, or the fraction of one GPU that it shares. 0 scores on the CPU."""
    memory_mb: int = 2048
    """Memory for the blocks of each process in MiB (2^20 bytes), in addition to the model and the matrix itself."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` computes the largest matrix products in bfloat16: faster where the hardware supports it."""
    cache_file: str = ""
    """Score cache: a .npy file that stores the matrix, so that the same command resumes. Empty: memory only."""
    cache_dtype: Literal["float32", "float16"] = "float32"
    """Type of the score cache. float16 produces more ties, and ties count against the model."""

    def __post_init__(self) -> None:
        """Makes `cache_file` absolute. Raises ValueError or UserError with the field, its value and the constraint."""
        if self.cache_file:
            object.__setattr__(self, "cache_file", str(local_path(self.cache_file, "score.cache_file")))
        if self.num_actors < 0:
            raise ValueError(f"score.num_actors is {self.num_actors}; it must be at least 0 (0 uses no actors)")
        if not 0 <= self.actor_gpus <= 1:
            raise ValueError(f"score.actor_gpus is {self.actor_gpus}; it must be from 0 to 1")
        if self.actor_gpus and not self.num_actors:
            raise ValueError(
                f"score.actor_gpus is {self.actor_gpus}, but has no effect without actors; set score.num_actors"
            )
        if self.memory_mb < 1:
            raise ValueError(f"score.memory_mb is {self.memory_mb}; it must be at least 1")
        if self.cache_file and not self.cache_file.endswith(".npy"):
            raise ValueError(f"score.cache_file is {self.cache_file!r}; its name must end in .npy")
        if self.cache_dtype != type(self).cache_dtype and not self.cache_file:
            raise ValueError(
                f"score.cache_dtype is {self.cache_dtype}, but has no effect without a score cache; set "
                "score.cache_file"
            )
