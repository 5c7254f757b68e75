"""Divides the pairs of photos and captions into blocks that fit a memory budget.

A block is a row block (consecutive photos) by a column block (captions of similar length, so that groups of equal
length are large and little is padded).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shan_model.batched_matcher import TILES
from shan_model.model import SHAN
from shan_model.score_cache import ScoringError

PHOTO_ARRAYS, CAPTION_ARRAYS, SCORE_ARRAYS = 6, 14, 4
"""Memory estimates: arrays of D floats per prepared region, per word that is encoded and prepared, floats per score."""
PHOTO_SHARE, CAPTION_SHARE = 0.6, 0.25
"""Fractions of the memory left beside a tile; the rest holds the scores of a block."""
UNKNOWN_REGIONS = 100
"""Regions assumed per photo where photos differ in their number: the maximum of the supported detectors."""


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
