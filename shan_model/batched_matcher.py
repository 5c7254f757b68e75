"""Base class of the matchers: scores all pairs of photos and captions with dense matrix products.

A matcher is the similarity function of a model: SHAN's alignment, or a baseline. Photos with equally many regions and
captions with equally many words form a group; on a GPU, where starting many small kernels takes longer than their
work, items of similar size do, padded to the longest (`padding.py`). The items of a group are prepared once
(`prepare_photos`, `prepare_captions`: everything that does not depend on the partner). Then each group of photos is
scored with each group of captions by `score_pairs`.

`score_pairs` is written once for two kinds of pairing, with einsum subscripts: all pairs of photos `i` and captions `c`
have the subscripts `ic`; a list of pairs, where photo p is paired with caption p, has the subscript `p`.

Shapes: B photos, C captions, K items of a group, R regions, W words, N vectors of an item, D joint width, P listed
pairs. `pairs` stands for the leading axes of the pairs: K x L for all pairs of K photos and L captions, P for a list.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from shan_model.padding import unpadded
from shan_model.ragged import Ragged, on_device


class Pairing(NamedTuple):
    """Einsum subscripts of the leading axes of photos, captions and their pairs."""

    photo: str
    caption: str
    pair: str

    def photos(self, x: Tensor) -> Tensor:
        """Returns a tensor of the photos with the axes it needs to broadcast over the pairs."""
        return x[:, None] if self is BLOCK else x

    def captions(self, x: Tensor) -> Tensor:
        """Returns a tensor of the captions with the axes it needs to broadcast over the pairs."""
        return x[None] if self is BLOCK else x


BLOCK = Pairing("i", "c", "ic")
"""Every photo with every caption."""
LIST = Pairing("p", "p", "p")
"""Photo p with caption p."""


class Tile(NamedTuple):
    """What is scored at once."""

    photos: int
    captions: int
    listed: int = 256
    """Listed pairs; each needs a copy of both of its items."""
    padded: bool = False
    """Whether the items of a tile are of similar instead of equal size."""


TILES = {"cpu": Tile(64, 16), "cuda": Tile(128, 256, listed=1024, padded=True)}
"""The tile by type of device: large enough for efficient matrix products. On a CPU, tensors of width D stay in the
cache; on a GPU, a tile is enough work for the time it takes to start its kernels."""


Side = Literal["photos", "captions"]


class Group(NamedTuple):
    """Prepared items of equal size, padded if need be."""

    rows: list[int]
    """Positions of these items among all items."""
    items: Any
    """NamedTuple of tensors whose first axis is K, as `prepare_photos` or `prepare_captions` returns it."""


def grouped(matrices: Sequence[Tensor] | Tensor, prepare: Callable[[Tensor, Tensor], Any], side: Side) -> list[Group]:
    """Groups matrices N_k x D, given as one each or as one tensor of equal ones, and prepares each group.

    `prepare` takes a tensor K x N x D and its padding. A padded group has at most as many items as a tile.
    """
    if isinstance(matrices, Tensor):
        return [Group(list(range(len(matrices))), prepare(matrices, unpadded(matrices)))] if len(matrices) else []
    if not len(matrices):
        return []
    ragged = Ragged.of(matrices)
    by_length = sorted(range(len(ragged)), key=ragged.lengths.__getitem__)
    tile = TILES[ragged.rows_TD.device.type]
    if tile.padded:
        most = getattr(tile, side)
        selections = [by_length[at : at + most] for at in range(0, len(by_length), most)]
    else:
        selections = [list(rows) for _, rows in groupby(by_length, key=ragged.lengths.__getitem__)]
    return [Group(rows, prepare(*ragged.padded(rows))) for rows in selections]


class BatchedMatcher(nn.Module):
    """A similarity function of photos and captions. Subclasses prepare both sides and score pairs."""

    word_attention: Callable[[Tensor, Tensor], Tensor]
    """Method: takes regions B x R x D and words W x D, returns each word's attention to the regions, B x R x W.

    It sums to 1 over R.
    """
    pools_means = True
    """Whether `pooled_photos` and `pooled_captions` are `mean_directions`."""

    @abstractmethod
    def prepare_photos(self, regions_KRD: Tensor, padding_KR: Tensor) -> Any:
        """Returns what scoring needs of K photos, as a NamedTuple of tensors whose first axis is K."""

    @abstractmethod
    def prepare_captions(self, words_KWD: Tensor, padding_KW: Tensor) -> Any:
        """Returns what scoring needs of K captions, as a NamedTuple of tensors whose first axis is K."""

    @abstractmethod
    def score_pairs(
        self, photos: Any, captions: Any, pairing: Pairing, matmul_dtype: torch.dtype | None = None
    ) -> Tensor:
        """Returns the scores of the pairs, in the shape of `pairing.pair`; `matmul_dtype` as in `score_block`."""

    def pooled_photos(self, regions: Sequence[Tensor] | Tensor) -> Tensor:
        """Returns a vector of length 1 for each of B photos, B x D. A search finds candidates by cosines with these."""
        return mean_directions(regions)

    def pooled_captions(self, words: Sequence[Tensor] | Tensor) -> Tensor:
        """Returns a vector of length 1 for each of C captions, C x D, as `pooled_photos` does."""
        return mean_directions(words)

    def photo_groups(self, regions: Sequence[Tensor] | Tensor) -> list[Group]:
        """Returns the prepared groups of B photos, given as a tensor B x R x D or as one R_b x D each."""
        return grouped(regions, self.prepare_photos, "photos")

    def caption_groups(self, words: Sequence[Tensor] | Tensor) -> list[Group]:
        """Returns the prepared groups of C captions, given as one W_c x D each or as a tensor C x W x D."""
        return grouped(words, self.prepare_captions, "captions")

    def score_block(
        self, photos: Sequence[Group], captions: Sequence[Group], matmul_dtype: torch.dtype | None = None
    ) -> Tensor:
        """Returns scores B x C of every photo with every caption, in the original order of the items.

        `matmul_dtype` is the type in which the products of all regions with all words are computed; None keeps the
        type of the inputs. Matchers whose product is the score itself always keep it.
        """
        size = _tile(captions)
        caption_tiles = [tile for group in captions for tile in split_items(group.items, size.captions)]
        rows = [
            torch.cat([self.score_pairs(photo_tile, tile, BLOCK, matmul_dtype) for tile in caption_tiles], dim=1)
            for group in photos
            for photo_tile in split_items(group.items, size.photos)
        ]
        return reordered(reordered(torch.cat(rows), photos, dim=0), captions, dim=1)

    def score_list(
        self,
        photos: Sequence[Group],
        captions: Sequence[Group],
        photo_of_pair_P: NDArray[np.int64],
        caption_of_pair_P: NDArray[np.int64],
        matmul_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Returns the scores (P) of P selected pairs, given the positions of their photos and captions.

        The cost is that of P pairs, whatever the number of photos and captions.
        """
        photo_group_P, photo_index_P = _locate(photos, photo_of_pair_P)
        caption_group_P, caption_index_P = _locate(captions, caption_of_pair_P)
        scored, scores = [], []
        for a, b in sorted(set(zip(photo_group_P.tolist(), caption_group_P.tolist(), strict=True))):
            pairs = np.flatnonzero((photo_group_P == a) & (caption_group_P == b))
            for at in range(0, len(pairs), _tile(captions).listed):
                chunk = pairs[at : at + _tile(captions).listed]
                photo_items = take(photos[a].items, photo_index_P[chunk])
                caption_items = take(captions[b].items, caption_index_P[chunk])
                scored.append(chunk)
                scores.append(self.score_pairs(photo_items, caption_items, LIST, matmul_dtype))
        found = torch.cat(scores)
        return found.index_select(0, on_device(np.concatenate(scored).argsort(), found))

    def forward(self, regions: Sequence[Tensor] | Tensor, words: Sequence[Tensor]) -> Tensor:
        """Returns scores B x C of B photos (B x R x D, or one R_b x D each) with C captions (one W_c x D each)."""
        if not len(regions) or not len(words):
            like = regions if isinstance(regions, Tensor) else next(iter([*regions, *words]), torch.empty(0))
            return like.new_zeros(len(regions), len(words))
        return self.score_block(self.photo_groups(regions), self.caption_groups(words))


def mean_directions(items: Sequence[Tensor] | Tensor) -> Tensor:
    """Returns the normalised mean vectors (K x D) of K photos or captions, of N_k x D each."""
    return normalize(torch.stack([vectors_ND.mean(dim=0) for vectors_ND in items]), dim=1)


def dot_products(x_KRD: Tensor, y_LWD: Tensor, pairing: Pairing, dtype: torch.dtype | None) -> Tensor:
    """Returns the dot products of all vectors of each pair, pairs x R x W, computed in `dtype` (None: input type)."""
    x, y = x_KRD.to(dtype or x_KRD.dtype), y_LWD.to(dtype or y_LWD.dtype)
    if pairing is LIST:
        return (x @ y.transpose(1, 2)).to(x_KRD.dtype)
    block = (x.flatten(0, 1) @ y.flatten(0, 1).T).to(x_KRD.dtype)
    # Later steps sum over R and W many times, which pays for a copy into pair-major order.
    return block.unflatten(0, x.shape[:2]).unflatten(2, y.shape[:2]).transpose(1, 2).contiguous()


def take(items: Any, rows: NDArray[np.int64]) -> Any:
    """Returns the selected rows of prepared items."""
    index = on_device(rows, items[0])
    return type(items)(*(x.index_select(0, index) for x in items))


def split_items(items: Any, size: int) -> list[Any]:
    """Returns prepared items in chunks of at most `size`."""
    if len(items[0]) <= size:
        return [items]
    return [type(items)(*part) for part in zip(*(x.split(size) for x in items), strict=True)]


def _tile(groups: Sequence[Group]) -> Tile:
    return TILES[groups[0].items[0].device.type]


def reordered(scores: Tensor, groups: Sequence[Group], dim: int) -> Tensor:
    """Returns the scores of grouped items in the original order of the items."""
    order = np.concatenate([group.rows for group in groups]).argsort()
    return scores if (order == np.arange(len(order))).all() else scores.index_select(dim, on_device(order, scores))


def _locate(groups: Sequence[Group], positions_P: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns, for each position, the number of its group and the row within the group."""
    group = np.concatenate([np.full(len(group.rows), number) for number, group in enumerate(groups)])
    row = np.concatenate([np.arange(len(group.rows)) for group in groups])
    order = np.concatenate([group.rows for group in groups]).argsort()
    return group[order][positions_P], row[order][positions_P]
