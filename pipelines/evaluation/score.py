"""All pairs of a split's photos and captions: in this process, or shared out over Ray actors, resumable either way."""

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
from infra.storage.open import require_durable_path
from shan_model.model import SHAN
from shan_model.score_file import ScoreFile
from shan_model.scoring import Blocks, Progress, RegionRows, open_matrix, score_blocks, score_matrix


@dataclass(frozen=True)
class ScoreConfig:
    """How whole score matrices are made."""

    num_actors: int = 0
    """Ray actors that share the photos, one CPU each; 0: this process alone."""
    memory_mb: int = 2048
    """Memory for the blocks of each process, MiB, beside the model and the matrix itself."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` multiplies the widest products in bfloat16: faster on CPUs and GPUs that have it (docs/results.md)."""
    cache_file: str = ""
    """Keep the matrix in this .npy file; the same command goes on where it was cut off. Empty: in memory only."""
    cache_dtype: Literal["float32", "float16"] = "float32"
    """Type of the kept matrix; float16 makes more ties, and ties count against the model."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        if self.num_actors < 0:
            raise ValueError(f"score.num_actors is {self.num_actors}; give a number of actors, or 0 for this process")
        if self.memory_mb < 1:
            raise ValueError(f"score.memory_mb is {self.memory_mb}; it must be positive")
        if self.cache_file and not self.cache_file.endswith(".npy"):
            raise ValueError(
                f"score.cache_file is {self.cache_file!r}; a score matrix is a NumPy file, so end it in .npy"
            )


def score(
    shan: SHAN,
    regions: RegionRows,
    captions: Sequence[str],
    config: ScoreConfig,
    cluster: ClusterConfig,
    identity: str,
    progress: Progress,
) -> NDArray[np.floating]:
    """Scores N x C as `config` says; `identity` names all that they depend on (a kept matrix is of that alone).

    Raises UserError for a memory too small or a file that holds other scores.
    """
    if config.cache_file:
        require_durable_path(config.cache_file, "score.cache_file")
    try:
        out = (
            ScoreFile(Path(config.cache_file), f"{identity} {config.precision}", config.cache_dtype)
            if config.cache_file
            else None
        )
        if config.num_actors:
            return _score_on_actors(shan, regions, captions, config, cluster, out, progress)
        memory = config.memory_mb * 2**20
        return score_matrix(
            shan, regions, captions, memory=memory, precision=config.precision, out=out, progress=progress
        )
    except ValueError as error:
        raise UserError(str(error)) from error


class BlockScorer:
    """Runs as a Ray actor with one CPU: scores strips of photos and hands over every block as it is done."""

    def __init__(
        self, shan: SHAN, regions: RegionRows, captions: Sequence[str], blocks: Blocks, precision: str
    ) -> None:
        torch.set_num_threads(1)
        self._work = shan.eval(), regions, captions, blocks
        self._precision = precision

    def strip(self, i: int, runs: list[int]) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """The wanted runs of strip i."""
        yield from score_blocks(*self._work, {(i, j) for j in runs}, precision=self._precision)


def _score_on_actors(
    shan: SHAN,
    regions: RegionRows,
    captions: Sequence[str],
    config: ScoreConfig,
    cluster: ClusterConfig,
    out: ScoreFile | None,
    progress: Progress,
) -> NDArray[np.floating]:
    import ray

    infra.cluster.connect(cluster)
    memory = config.memory_mb * 2**20
    blocks, matrix, wanted = open_matrix(
        shan, regions, captions, memory, out=out, progress=progress, strips=config.num_actors
    )
    strips = [(i, sorted(j for k, j in wanted if k == i)) for i in sorted({i for i, _ in wanted})]
    work = [ray.put(x) for x in (shan, regions, captions, blocks)]
    actors = [
        ray.remote(BlockScorer).options(num_cpus=1).remote(*work, config.precision)
        for _ in range(min(config.num_actors, len(strips)))
    ]
    try:
        streams = {}
        for actor in actors:
            streams[_start(actor, strips)] = actor
        while streams:
            (stream,), _ = ray.wait(list(streams), num_returns=1, fetch_local=False)
            try:
                i, j, scores = ray.get(next(stream))
            except StopIteration:
                actor = streams.pop(stream)
                if strips:
                    streams[_start(actor, strips)] = actor
                continue
            matrix[blocks.rows(i), blocks.columns(j)] = scores
            if out is not None:
                out.mark(i, j)
            progress(scores.size)
    finally:
        if out is not None:
            out.close()
        for actor in actors:
            ray.kill(actor)
    return matrix


def _start(actor: Any, strips: list[tuple[int, list[int]]]) -> Any:
    """The stream of the next strip's blocks."""
    return actor.strip.options(num_returns="streaming").remote(*strips.pop(0))
