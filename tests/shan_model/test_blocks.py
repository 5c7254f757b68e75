"""Blocks of photos and captions: smaller with less memory, and of captions of similar length."""

import numpy as np
import pytest

from shan_model.batched_matcher import TILES
from shan_model.blocks import Blocks, RowRange, cut_blocks
from shan_model.vocabulary import tokenize

LITTLE = TILES["cpu"].photos * TILES["cpu"].captions * 4 * (8 * 8 + 6 * 3 * 11) + 254_000
"""Bytes that hold about a hundred photos and captions of these sizes beside a tile of pairs."""


def regions(photos: int = 5, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((photos, 3, 12)).astype(dtype)


def test_less_memory_gives_smaller_blocks(model, captions):
    def cut(memory: int, min_row_blocks: int = 1) -> Blocks:
        return cut_blocks(model, regions(3000), captions * 500, memory, min_row_blocks)

    shapes = [cut(memory).shape for memory in (LITTLE, LITTLE + 200_000, 64 << 20)]
    assert shapes[0][0] > shapes[1][0] > shapes[2][0] == 1
    assert shapes[0][1] >= shapes[1][1] > shapes[2][1]
    assert cut(64 << 20, min_row_blocks=4).shape[0] == 4
    blocks = cut(LITTLE)
    assert sorted(np.concatenate([blocks.columns(j) for j in range(blocks.shape[1])])) == list(range(2000))
    assert [blocks.rows(i).start for i in range(1, blocks.shape[0])] == [
        blocks.rows(i).stop for i in range(blocks.shape[0] - 1)
    ]
    with pytest.raises(ValueError, match=r"a memory of 1 MiB is too small for a block; allow at least \d+ MiB"):
        cut(1 << 20)


def test_captions_of_similar_length_share_a_block(model, captions):
    order = cut_blocks(model, regions(), captions, 64 << 20).order
    assert [len(tokenize(captions[c])) for c in order] == sorted(len(tokenize(c)) for c in captions)


def test_a_row_range_returns_its_rows():
    photos = regions(90)
    rows = RowRange(photos, slice(20, 50))
    assert len(rows) == 30
    np.testing.assert_array_equal(rows[10:64], photos[30:50])
    np.testing.assert_array_equal(rows[0:7], photos[20:27])
