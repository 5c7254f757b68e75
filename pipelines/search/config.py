"""Settings of a search index."""

import math
from dataclasses import dataclass
from typing import Literal

from infra.paths import absolute
from pipelines.search.vector_rows import VectorType

CANDIDATES = 100
"""Candidates of a query by default; tests/benchmarks/search.py measures how much of the exact top 10 they keep."""
MAX_WORDS = 512
"""Words of the longest text query, as the tokenizer of the model counts them."""
MAX_CHARACTERS = 20_000
"""Characters of the longest text query, so that a longer one is refused before its words are counted."""
Galleries = Literal["photos", "captions", "both"]


@dataclass(frozen=True)
class IndexConfig:
    """How photos and captions are encoded into a search index."""

    output: str = "build/indexes"
    """Root of search indexes, a folder or s3://bucket/prefix. Each index is a folder below it."""
    galleries: Galleries = "both"
    """What is indexed: `photos` for text queries, `captions` for photo queries, or `both`. The captions take about
    twice the space of their photos. Galleries that the index has are kept."""
    photos_per_partition: int = 4096
    """Photos of a partition, about: a partition holds complete shards. It is what a worker encodes at once and what a
    process of a service loads."""
    vector_type: VectorType = "float16"
    """How encodings are stored: `float16`, or `int8`, which takes about half the space and changes scores
    slightly."""
    candidate_search: Literal["auto", "flat", "ivf"] = "auto"
    """How candidates are found: `flat` compares a query with every item, `ivf` with the items of the nearest lists.
    `auto` takes `ivf` from 50,000 items on."""
    num_lists: int = 0
    """Lists of `ivf`; 0 takes the power of 2 nearest to 4 times the square root of the number of items."""
    num_probes: int = 0
    """Lists of `ivf` that a query is compared with; 0 takes 8 times the square root of their number, 256 of
    1,024: more find hardly more, and their part of the gallery falls as it grows."""
    num_actors: int = 2
    """Number of processes that encode partitions."""
    actor_cpus: float = 1.0
    """Logical CPUs of such a process. Torch and FAISS use the same number of threads."""
    actor_gpus: float = 0.0
    """GPUs of such a process, or the fraction of one GPU that it shares. 0 encodes on the CPU."""

    def __post_init__(self) -> None:
        """Makes `output` absolute. Raises ValueError or UserError naming the field, its value and the constraint."""
        object.__setattr__(self, "output", absolute(self.output, "index.output"))
        for name in ("photos_per_partition", "num_actors"):
            if getattr(self, name) < 1:
                raise ValueError(f"index.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("num_lists", "num_probes"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"index.{name} is {getattr(self, name)}; it must be at least 1, or 0 to choose it from the size"
                )
        if self.num_lists and self.candidate_search != "ivf":
            raise ValueError(
                f"index.num_lists is {self.num_lists}, but has no effect without index.candidate_search ivf; set it"
            )
        if self.num_probes and self.candidate_search == "flat":
            raise ValueError(
                f"index.num_probes is {self.num_probes}, but has no effect with index.candidate_search flat; omit it"
            )
        if not 0 < self.actor_cpus < math.inf:
            raise ValueError(f"index.actor_cpus is {self.actor_cpus}; it must be positive")
        if not 0 <= self.actor_gpus < math.inf or (self.actor_gpus > 1 and self.actor_gpus % 1):
            raise ValueError(
                f"index.actor_gpus is {self.actor_gpus}; it must be 0, a fraction of one GPU, or a whole number"
            )

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Torch device of a process that encodes."""
        return "cuda" if self.actor_gpus else "cpu"

    @property
    def wanted(self) -> tuple[str, ...]:
        """Galleries to index."""
        return ("photos", "captions") if self.galleries == "both" else (self.galleries,)
