"""Scores all pairs of photos and captions in blocks within a memory budget: evaluation, validation and search use it.

A block is a row block (consecutive photos) by a column block (captions of similar length, so that groups of equal
length are large and little is padded). The photos of a row block are encoded and prepared once for all column blocks.
Captions are encoded again for every row block, which costs little if a row block has some hundred photos.
"""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shan_model.batched_matcher import TILES, Group
from shan_model.model import SHAN
from shan_model.score_cache import ScoreCache, ScoringError

MEMORY = 2 << 30
"""Default memory budget of the blocks in bytes: 2 GiB."""
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}
"""Type of the largest matrix products by name; None is the type of the inputs."""

PHOTO_ARRAYS, CAPTION_ARRAYS, SCORE_ARRAYS = 6, 14, 4
"""Memory estimates: arrays of D floats per prepared region, per word that is encoded and prepared, floats per score."""
PHOTO_SHARE, CAPTION_SHARE = 0.6, 0.25
"""Shares of the memory left beside a tile; the rest holds the scores of a block."""
UNKNOWN_REGIONS = 100
"""Regions assumed per photo where photos differ in their number: the maximum of the supported detectors."""

OnPairs = Callable[[int], object]
"""Called with the number of pairs of every finished block."""


class RegionRows(Protocol):
    """Region features of N photos that can be sliced: an array N x R x F, a memory map, a split of a feature set."""

    def __len__(self) -> int:
        """Returns N."""

    def __getitem__(self, rows: slice, /) -> NDArray[Any] | Sequence[NDArray[Any]]:
        """Returns consecutive photos: n x R x F, or n arrays R_i x F if photos have different numbers of regions."""


@dataclass(frozen=True)
class RowRange:
    """Consecutive photos of `regions`, as RegionRows of their own: a fold of a split."""

    regions: RegionRows
    rows: slice

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start

    def __getitem__(self, rows: slice) -> NDArray[Any] | Sequence[NDArray[Any]]:
        """Returns consecutive photos; indices count from the start of the range."""
        start, stop, _ = rows.indices(len(self))
        return self.regions[self.rows.start + start : self.rows.start + stop]


@dataclass(frozen=True)
class Blocks:
    """How a score matrix N x C is divided into blocks."""

    photo_edges: tuple[int, ...]
    """Row block i holds the photos `photo_edges[i]` to `photo_edges[i + 1]`."""
    caption_edges: tuple[int, ...]
    order: NDArray[np.int64]
    """Captions by number of words: column block j holds `order[caption_edges[j] : caption_edges[j + 1]]`."""

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of row blocks and column blocks."""
        return len(self.photo_edges) - 1, len(self.caption_edges) - 1

    def rows(self, i: int) -> slice:
        """Returns the photos of row block i."""
        return slice(self.photo_edges[i], self.photo_edges[i + 1])

    def columns(self, j: int) -> NDArray[np.int64]:
        """Returns the captions of column block j."""
        return self.order[self.caption_edges[j] : self.caption_edges[j + 1]]

    def size(self, i: int, j: int) -> int:
        """Returns the number of pairs of block (i, j)."""
        rows = self.rows(i)
        return (rows.stop - rows.start) * len(self.columns(j))


def cut_blocks(
    model: SHAN, regions: RegionRows, captions: Sequence[str], memory: int, min_row_blocks: int = 1
) -> Blocks:
    """Returns the largest blocks that fit into `memory` bytes beside the model.

    The budget covers the photos and captions of a block, its scores, and the tile that a CPU computes at once; the tile
    of a GPU takes some GiB more. Blocks are the same on every device, so a score cache resumes on any.
    `min_row_blocks` is the least number of row blocks, for several processes to share. Raises ScoringError if not even
    one photo fits.
    """
    width, size = 4 * model.config.joint_dim, TILES["cpu"]
    first = regions[0 : size.photos]
    unknown = [1] if isinstance(first, np.ndarray) else [UNKNOWN_REGIONS]
    vectors = max([len(regions_RF) for regions_RF in first] + unknown)
    lengths = np.array([len(model.text_encoder.tokens(caption)) for caption in captions], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    longest, counts = np.unique(lengths, return_counts=True) if len(lengths) else (np.array([1]), np.array([1]))
    # A pair of a tile needs eight vectors of D and six matrices R x W; a photo being encoded needs its input.
    widest = int((np.minimum(counts, size.captions) * longest).max())
    tile = size.photos * (size.captions * 8 * width + widest * 6 * 4 * vectors)
    encoding = size.photos * vectors * (8 * model.config.region_dim + 2 * width)
    free = memory - tile - encoding
    photos = int(PHOTO_SHARE * free / (vectors * PHOTO_ARRAYS * width))
    words = int(CAPTION_SHARE * free / (CAPTION_ARRAYS * width))
    if photos < 1 or words < longest[-1]:
        photo, caption = (
            vectors * PHOTO_ARRAYS * width / PHOTO_SHARE,
            longest[-1] * CAPTION_ARRAYS * width / CAPTION_SHARE,
        )
        need = math.ceil((tile + encoding + max(photo, caption)) / 2**20) + 1
        raise ScoringError(f"a memory of {memory / 2**20:.0f} MiB is too small for a block; allow at least {need} MiB")
    row_blocks = max(-(-len(regions) // photos), min(min_row_blocks, len(regions)))
    photo_edges = tuple(np.linspace(0, len(regions), row_blocks + 1).astype(int).tolist())
    height = max(np.diff(photo_edges), default=1)
    max_captions = max(1, int((1 - PHOTO_SHARE - CAPTION_SHARE) * free / (SCORE_ARRAYS * 4 * height)))
    return Blocks(photo_edges, _caption_edges(lengths[order], words, max_captions), order)


def _caption_edges(lengths_C: NDArray[np.int64], max_words: int, max_captions: int) -> tuple[int, ...]:
    """Divides captions, shortest first, into blocks of at most `max_words` words if padded to the longest caption."""
    edges = [0] if len(lengths_C) else []
    for c, length in enumerate(lengths_C.tolist()):
        captions = c + 1 - edges[-1]
        if captions > 1 and (captions * length > max_words or captions > max_captions):
            edges.append(c)
    return (*edges, len(lengths_C))


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
    digest = hashlib.sha256(
        json.dumps([asdict(model.config), model.vocabulary.words, list(captions), more], sort_keys=True).encode()
    )
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
