"""Scores all pairs of photos and captions, in this process or on Ray actors; with a score cache it is resumable."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

import infra.cluster
from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.paths import local_path
from infra.storage.open import require_durable_path
from shan_model.model import SHAN
from shan_model.score_cache import ScoreCache, ScoringError
from shan_model.scoring import Blocks, OnPairs, RegionRows, open_matrix, score_blocks, score_matrix


@dataclass(frozen=True)
class ScoreConfig:
    """How score matrices are computed and stored."""

    num_actors: int = 0
    """Number of Ray actors, with one CPU each, that share the photos; 0 scores in this process."""
    memory_mb: int = 2048
    """Memory for the blocks of each process in MiB, in addition to the model and the matrix itself."""
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
        if self.memory_mb < 1:
            raise ValueError(f"score.memory_mb is {self.memory_mb}; it must be at least 1")
        if self.cache_file and not self.cache_file.endswith(".npy"):
            raise ValueError(f"score.cache_file is {self.cache_file!r}; its name must end in .npy")


def score(
    shan: SHAN,
    regions: RegionRows,
    captions: Sequence[str],
    config: ScoreConfig,
    cluster: ClusterConfig,
    identity: str,
    progress: OnPairs,
) -> NDArray[np.floating]:
    """Returns the scores N x C of N photos with C captions.

    `identity` names everything that the scores depend on; a score cache with another identity is not used. `progress`
    is called with the number of pairs of every finished block. Raises UserError if the memory is too small or the
    cache file cannot be used.
    """
    try:
        cache = None
        if config.cache_file:
            require_durable_path(config.cache_file, "score.cache_file")
            cache = ScoreCache(Path(config.cache_file), f"{identity} {config.precision}", config.cache_dtype)
        if config.num_actors:
            return _score_on_actors(shan, regions, captions, config, cluster, cache, progress)
        memory = config.memory_mb * 2**20
        return score_matrix(
            shan, regions, captions, memory=memory, precision=config.precision, cache=cache, progress=progress
        )
    except ScoringError as error:
        raise UserError(str(error)) from error


class BlockScorer:
    """A Ray actor with one CPU that scores row blocks and yields each block when it is finished."""

    def __init__(
        self, shan: SHAN, regions: RegionRows, captions: Sequence[str], blocks: Blocks, precision: str
    ) -> None:
        torch.set_num_threads(1)
        self._inputs = shan.eval(), regions, captions, blocks
        self._precision = precision

    def score_row_block(self, i: int, columns: list[int]) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Yields (i, j, scores) for the given column blocks of row block i."""
        yield from score_blocks(*self._inputs, {(i, j) for j in columns}, precision=self._precision)


def _score_on_actors(
    shan: SHAN,
    regions: RegionRows,
    captions: Sequence[str],
    config: ScoreConfig,
    cluster: ClusterConfig,
    cache: ScoreCache | None,
    progress: OnPairs,
) -> NDArray[np.floating]:
    """Assigns one row block at a time to each actor; the driver writes the blocks into the matrix."""
    import ray

    infra.cluster.connect(cluster)
    memory = config.memory_mb * 2**20
    blocks, matrix, wanted = open_matrix(
        shan, regions, captions, memory, cache=cache, progress=progress, min_row_blocks=config.num_actors
    )
    row_blocks = [(i, sorted(j for k, j in wanted if k == i)) for i in sorted({i for i, _ in wanted})]
    inputs = [ray.put(x) for x in (shan, regions, captions, blocks)]
    actors = [
        ray.remote(BlockScorer).options(num_cpus=1).remote(*inputs, config.precision)
        for _ in range(min(config.num_actors, len(row_blocks)))
    ]
    try:
        streams = {}
        for actor in actors:
            streams[_start(actor, row_blocks)] = actor
        while streams:
            (stream,), _ = ray.wait(list(streams), num_returns=1, fetch_local=False)
            try:
                i, j, scores = ray.get(next(stream))
            except StopIteration:
                actor = streams.pop(stream)
                if row_blocks:
                    streams[_start(actor, row_blocks)] = actor
                continue
            matrix[blocks.rows(i), blocks.columns(j)] = scores
            if cache is not None:
                cache.mark(i, j)
            progress(scores.size)
    finally:
        if cache is not None:
            cache.close()
        for actor in actors:
            ray.kill(actor)
    return matrix


def _start(actor: Any, row_blocks: list[tuple[int, list[int]]]) -> Any:
    """Removes the first row block from the list and returns the actor's stream of its blocks."""
    return actor.score_row_block.options(num_returns="streaming").remote(*row_blocks.pop(0))
