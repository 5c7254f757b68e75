"""Scores all pairs of photos and captions, block by block: evaluation, validation and search use it.

The photos of a row block are encoded and prepared once for all column blocks. Captions are encoded again for every row
block, which costs little if a row block has some hundred photos.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shan_model.batched_matcher import TILES, Group
from shan_model.blocks import Blocks, RegionRows, cut_blocks
from shan_model.model import SHAN
from shan_model.score_cache import ScoreCache, ScoringError

MEMORY = 2 << 30
"""Default memory budget of the blocks in bytes: 2 GiB."""
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}
"""Type of the largest matrix products by name; None is the type of the inputs."""
NEW_FIELDS = {"scan_lse_factor": 0.0}
"""Config fields that are left out of the identity of scores at a value that leaves scores as they were before the field
existed, so that earlier cache files stay valid. A new field is added here."""
OnPairs = Callable[[int], object]
"""Called with the number of pairs of every finished block."""


@torch.no_grad()
def score_blocks(
    model: SHAN,
    regions: RegionRows,
    captions: Sequence[str],
    blocks: Blocks,
    wanted: Collection[tuple[int, int]],
    *,
    precision: str = "fp32",
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Yields (i, j, scores) of the wanted blocks, by row block; each photo of a row block is read and encoded once.

    `precision` is a key of PRECISIONS.
    """
    matmul_dtype = PRECISIONS[precision]
    for i in sorted({i for i, _ in wanted}):
        photos = _photo_groups(model, regions, blocks.rows(i))
        for j in (j for j in range(blocks.shape[1]) if (i, j) in wanted):
            groups = model.alignment.caption_groups(model.encode_captions([captions[c] for c in blocks.columns(j)]))
            rows = [model.alignment.score_block(tile, groups, matmul_dtype) for tile in photos]
            yield i, j, torch.cat(rows).float().cpu().numpy()


def _photo_groups(model: SHAN, regions: RegionRows, rows: slice) -> list[list[Group]]:
    """Encodes and prepares the photos of a row block, a tile at a time."""
    step = TILES[model.device.type].photos
    tiles = []
    for start in range(rows.start, rows.stop, step):
        chunk = regions[start : min(start + step, rows.stop)]
        if isinstance(chunk, np.ndarray):
            encoded: Tensor | list[Tensor] = model.encode_photos(torch.from_numpy(np.array(chunk)).to(model.device))
        else:
            encoded = [model.encode_photos(torch.from_numpy(np.array(x)).to(model.device)[None])[0] for x in chunk]
        tiles.append(model.alignment.photo_groups(encoded))
    return tiles


def score_matrix(
    model: SHAN,
    regions: RegionRows,
    captions: Sequence[str],
    *,
    memory: int = MEMORY,
    precision: str = "fp32",
    cache: ScoreCache | None = None,
    progress: OnPairs = lambda _: None,
) -> NDArray[np.floating]:
    """Returns the scores N x C of N photos' region features with C captions, float32 or the type of the cache.

    `memory` limits the blocks, in bytes, beside the model and the matrix. `precision="bf16"` computes the largest
    products in bfloat16. With a `cache` the matrix is a memory map of its file, and blocks that an earlier call
    finished are not computed again. `progress` is called with the number of pairs of every finished block, first with
    those found in the cache. The model is left in the mode (training or evaluation) in which it was given. Raises
    ScoringError for a memory that is too small and for a cache that cannot be used.
    """
    blocks, matrix, wanted = open_matrix(model, regions, captions, memory, cache=cache, progress=progress)
    was_training = model.training
    model.eval()
    try:
        for i, j, scores in score_blocks(model, regions, captions, blocks, wanted, precision=precision):
            matrix[blocks.rows(i), blocks.columns(j)] = scores
            if cache is not None:
                cache.mark(i, j)
            progress(scores.size)
    finally:
        if cache is not None:
            cache.close()
        model.train(was_training)
    return matrix


def open_matrix(
    model: SHAN,
    regions: RegionRows,
    captions: Sequence[str],
    memory: int,
    *,
    cache: ScoreCache | None,
    progress: OnPairs,
    min_row_blocks: int = 1,
) -> tuple[Blocks, NDArray[np.floating], set[tuple[int, int]]]:
    """Returns the blocks (those of the cache's file if it exists), the matrix, and the blocks not yet computed.

    Raises ScoringError if the blocks of the file are larger than `memory` allows.
    """
    blocks, shape = cut_blocks(model, regions, captions, memory, min_row_blocks), (len(regions), len(captions))
    matrix: NDArray[np.floating]
    done: set[tuple[int, int]] = set()
    if cache is None:
        matrix = np.empty(shape, dtype=np.float32)
    else:
        blocks = Blocks(*cache.open(shape, (blocks.photo_edges, blocks.caption_edges)), blocks.order)
        matrix, done = cache.matrix, cache.done()
    wanted = {(i, j) for i in range(blocks.shape[0]) for j in range(blocks.shape[1])} - done
    fitting = cut_blocks(model, regions, captions, memory).shape
    if wanted and (blocks.shape[0] < fitting[0] or blocks.shape[1] < fitting[1]):
        assert cache is not None
        cache.close()
        raise ScoringError(
            f"{cache.path} was started with more memory, so its blocks do not fit; allow as much memory as before, "
            "or delete the file to start again"
        )
    progress(sum(blocks.size(i, j) for i, j in done))
    return blocks, matrix, wanted


def identity(model: SHAN, captions: Sequence[str], **more: str) -> str:
    """Returns a digest of what scores depend on: weights, config, vocabulary, captions, and what the caller adds."""
    config = {name: value for name, value in asdict(model.config).items() if NEW_FIELDS.get(name) != value}
    digest = hashlib.sha256(json.dumps([config, model.vocabulary.words, list(captions), more], sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
