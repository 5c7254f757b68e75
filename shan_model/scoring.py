"""All pairs of photos and captions, block by block within a memory budget: how evaluation, validation and search score.

Blocks are strips of consecutive photos by runs of captions of like length (so that groups are large and nothing is
padded). A strip's photos are encoded and prepared once and stay while all captions pass by; captions are encoded again
for every strip, which costs little where a strip is some hundred photos high.
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

from shan_model.batched_matcher import TILE_CAPTIONS, TILE_PHOTOS, Group
from shan_model.model import SHAN
from shan_model.score_file import ScoreFile

MEMORY = 2 << 30
"""Bytes that a call may use for its blocks if the caller states nothing: 2 GiB."""

PHOTO_ARRAYS, CAPTION_ARRAYS, SCORE_ARRAYS = 6, 14, 4
"""Floats of D that a vector costs: prepared photos stay for a strip, captions are encoded and prepared all at once.
Floats that a score costs while a block is put together."""

PHOTO_SHARE, CAPTION_SHARE = 0.6, 0.25
"""Of the memory beside a tile; the rest is for a block's scores."""

Progress = Callable[[int], object]


class RegionRows(Protocol):
    """Region features of N photos that can be sliced: an array N x R x F, a memory map, a split of a feature set."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: slice, /) -> NDArray[Any] | Sequence[NDArray[Any]]:
        """Features of consecutive photos: n x R x F, or n arrays R_i x F where photos differ in regions."""


@dataclass(frozen=True)
class Blocks:
    """A matrix cut into blocks: rows `photo_edges[i]` to `photo_edges[i + 1]`, columns `order` between two edges."""

    photo_edges: tuple[int, ...]
    caption_edges: tuple[int, ...]
    order: NDArray[np.int64]
    """Captions by number of words: block j holds columns `order[caption_edges[j] : caption_edges[j + 1]]`."""

    @property
    def shape(self) -> tuple[int, int]:
        """Strips of photos and runs of captions."""
        return len(self.photo_edges) - 1, len(self.caption_edges) - 1

    def rows(self, i: int) -> slice:
        """Photos of strip i."""
        return slice(self.photo_edges[i], self.photo_edges[i + 1])

    def columns(self, j: int) -> NDArray[np.int64]:
        """Captions of run j."""
        return self.order[self.caption_edges[j] : self.caption_edges[j + 1]]

    def size(self, i: int, j: int) -> int:
        """Pairs of a block."""
        rows = self.rows(i)
        return (rows.stop - rows.start) * len(self.columns(j))


def cut_blocks(model: SHAN, regions: RegionRows, captions: Sequence[str], memory: int, strips: int = 1) -> Blocks:
    """The blocks that fit `memory` bytes beside the model: photos, captions, a block's scores, a tile in the making.

    Photos that differ in regions are taken to have 100, the most that detectors give, or as many as the largest of the
    first. `strips` is the least number of strips of photos, where several processes share them. Raises ValueError where
    not even a few photos fit.
    """
    width = 4 * model.config.joint_dim
    first = regions[0:TILE_PHOTOS]
    vectors = max([len(regions_RF) for regions_RF in first] + ([1] if isinstance(first, np.ndarray) else [100]))
    lengths = np.array([len(model.text_encoder.tokens(caption)) for caption in captions], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    longest, counts = np.unique(lengths, return_counts=True) if len(lengths) else (np.array([1]), np.array([1]))
    # Eight vectors of D and six matrices R x W are alive for a pair of a tile; a photo being encoded holds its input.
    widest = int((np.minimum(counts, TILE_CAPTIONS) * longest).max())
    tile = TILE_PHOTOS * (TILE_CAPTIONS * 8 * width + widest * 6 * 4 * vectors)
    encoding = TILE_PHOTOS * vectors * (8 * model.config.region_dim + 2 * width)
    free = memory - tile - encoding
    photos = int(PHOTO_SHARE * free / (vectors * PHOTO_ARRAYS * width))
    words = int(CAPTION_SHARE * free / (CAPTION_ARRAYS * width))
    if photos < 1 or words < longest[-1]:
        photo, caption = (
            vectors * PHOTO_ARRAYS * width / PHOTO_SHARE,
            longest[-1] * CAPTION_ARRAYS * width / CAPTION_SHARE,
        )
        need = math.ceil((tile + encoding + max(photo, caption)) / 2**20) + 1
        raise ValueError(f"{memory / 2**20:.0f} MiB hold no block; allow at least {need} MiB")
    strips = max(-(-len(regions) // photos), min(strips, len(regions)))
    photo_edges = tuple(np.linspace(0, len(regions), strips + 1).astype(int).tolist())
    height = max(np.diff(photo_edges), default=1)
    at_most = max(1, int((1 - PHOTO_SHARE - CAPTION_SHARE) * free / (SCORE_ARRAYS * 4 * height)))
    return Blocks(photo_edges, _caption_edges(lengths[order], words, at_most), order)


def _caption_edges(lengths_C: NDArray[np.int64], words: int, at_most: int) -> tuple[int, ...]:
    """Runs of captions, shortest first, that padded to their longest hold no more than `words`, `at_most` captions."""
    edges = [0] if len(lengths_C) else []
    for c, length in enumerate(lengths_C.tolist()):
        if c > edges[-1] and ((c + 1 - edges[-1]) * length > words or c + 1 - edges[-1] > at_most):
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
    """Scores of the wanted blocks (strip, run), strip by strip; every photo of a strip is read and encoded once."""
    products = PRECISIONS[precision]
    for i in sorted({i for i, _ in wanted}):
        photos = _photo_groups(model, regions, blocks.rows(i))
        for j in (j for j in range(blocks.shape[1]) if (i, j) in wanted):
            groups = model.alignment.caption_groups(model.encode_captions([captions[c] for c in blocks.columns(j)]))
            rows = [model.alignment.score_block(few, groups, products) for few in photos]
            yield i, j, torch.cat(rows).float().cpu().numpy()


def _photo_groups(model: SHAN, regions: RegionRows, rows: slice) -> list[list[Group]]:
    """Prepared groups of a strip, a tile of photos at a time."""
    device = next(model.parameters()).device
    tiles = []
    for start in range(rows.start, rows.stop, TILE_PHOTOS):
        chunk = regions[start : min(start + TILE_PHOTOS, rows.stop)]
        if isinstance(chunk, np.ndarray):
            encoded: Tensor | list[Tensor] = model.encode_photos(torch.from_numpy(np.array(chunk)).to(device))
        else:
            encoded = [model.encode_photos(torch.from_numpy(np.array(x)).to(device)[None])[0] for x in chunk]
        tiles.append(model.alignment.photo_groups(encoded))
    return tiles


def score_matrix(
    model: SHAN,
    regions: RegionRows,
    captions: Sequence[str],
    *,
    memory: int = MEMORY,
    precision: str = "fp32",
    out: ScoreFile | None = None,
    progress: Progress = lambda _: None,
) -> NDArray[np.floating]:
    """Scores N x C of N photos' region features with C captions.

    `memory` bounds the blocks, in bytes. `precision="bf16"` multiplies the widest products in bfloat16. `out` keeps
    the matrix in a file, memory-mapped, and goes on where an earlier call was cut off; otherwise it is float32 in
    memory. `progress` is called with the pairs of every block that is done (those of an earlier call first). The model
    leaves in the mode it came in: a training loop that validates goes on training.
    """
    blocks, matrix, wanted = open_matrix(model, regions, captions, memory, out=out, progress=progress)
    was_training = model.training
    model.eval()
    try:
        for i, j, scores in score_blocks(model, regions, captions, blocks, wanted, precision=precision):
            matrix[blocks.rows(i), blocks.columns(j)] = scores
            if out is not None:
                out.mark(i, j)
            progress(scores.size)
    finally:
        if out is not None:
            out.close()
        model.train(was_training)
    return matrix


PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


def open_matrix(
    model: SHAN,
    regions: RegionRows,
    captions: Sequence[str],
    memory: int,
    *,
    out: ScoreFile | None,
    progress: Progress,
    strips: int = 1,
) -> tuple[Blocks, NDArray[np.floating], set[tuple[int, int]]]:
    """The blocks (as the file has them, if it is there), the matrix, and what is still to do.

    Raises ValueError where the file's blocks are larger than `memory` allows.
    """
    blocks, shape = cut_blocks(model, regions, captions, memory, strips), (len(regions), len(captions))
    matrix: NDArray[np.floating]
    done: set[tuple[int, int]] = set()
    if out is None:
        matrix = np.empty(shape, dtype=np.float32)
    else:
        blocks = Blocks(*out.open(shape, (blocks.photo_edges, blocks.caption_edges)), blocks.order)
        matrix, done = out.matrix, out.done()
    wanted = {(i, j) for i in range(blocks.shape[0]) for j in range(blocks.shape[1])} - done
    fitting = cut_blocks(model, regions, captions, memory).shape
    if wanted and (blocks.shape[0] < fitting[0] or blocks.shape[1] < fitting[1]):
        assert out is not None
        out.close()
        raise ValueError(f"{out.path} was cut for more memory; allow as much again, or delete it to begin again")
    progress(sum(blocks.size(i, j) for i, j in done))
    return blocks, matrix, wanted


def identity(model: SHAN, captions: Sequence[str], **more: str) -> str:
    """A digest of all that scores depend on: weights, config, vocabulary, captions, and what the caller adds."""
    digest = hashlib.sha256(
        json.dumps([asdict(model.config), model.vocabulary.words, list(captions), more], sort_keys=True).encode()
    )
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class RowRange:
    """Some consecutive photos of a split, as if they were all."""

    regions: RegionRows
    rows: slice

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start

    def __getitem__(self, rows: slice) -> NDArray[Any] | Sequence[NDArray[Any]]:
        """Features of consecutive photos."""
        start, stop, _ = rows.indices(len(self))
        return self.regions[self.rows.start + start : self.rows.start + stop]
