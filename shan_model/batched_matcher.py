"""All pairs of photos and captions at the speed of dense products: what every matcher's fast form shares.

Photos with equally many regions and captions with equally many words make a group, so nothing is ever padded and no
mask exists. A group's items are prepared once (`prepare_photos`, `prepare_captions`: all that needs no partner), then
every group of photos meets every group of captions in `score_pairs`.

`score_pairs` is written once for both ways to pair items up, in the letters of an einsum: in a block, photos `i` and
captions `c` give pairs `ic`; in a list, photo p and caption p give pair `p`.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Pairing(NamedTuple):
    """Letters of the leading axes of photos, captions and their pairs."""

    photo: str
    caption: str
    pair: str

    def photos(self, x: Tensor) -> Tensor:
        """Something of every photo, ready to broadcast over the pairs."""
        return x[:, None] if self is BLOCK else x

    def captions(self, x: Tensor) -> Tensor:
        """Something of every caption, ready to broadcast over the pairs."""
        return x[None] if self is BLOCK else x


BLOCK = Pairing("i", "c", "ic")
LIST = Pairing("p", "p", "p")


TILE_PHOTOS, TILE_CAPTIONS = 64, 16
"""Pairs that are scored at once: enough for dense products, few enough that what is as wide as D stays in the cache."""

LISTED = 256
"""Listed pairs that are scored at once; each brings its own copy of both sides."""


class Group(NamedTuple):
    """Items of one size, prepared: `rows_K` are their places among all items, every tensor of `side` begins with K."""

    rows_K: Tensor
    side: Any


def grouped(items: Sequence[Tensor] | Tensor, prepare: Callable[[Tensor], Any]) -> list[Group]:
    """Groups of equal length of matrices N_k x D; `prepare` makes a side of K x N x D."""
    if isinstance(items, Tensor):
        return [Group(torch.arange(len(items), device=items.device), prepare(items))] if len(items) else []
    rows_of: dict[int, list[int]] = {}
    for row, matrix in enumerate(items):
        rows_of.setdefault(len(matrix), []).append(row)
    return [
        Group(torch.tensor(rows, device=items[0].device), prepare(torch.stack([items[row] for row in rows])))
        for _, rows in sorted(rows_of.items())
    ]


class BatchedMatcher(nn.Module):
    """A matcher's fast form: subclasses prepare the two sides and score pairs."""

    word_attention: Callable[[Tensor, Tensor], Tensor]
    """A method: B x R x W from regions B x R x D and words W x D, how each word spreads over the regions (1 over R)."""

    @abstractmethod
    def prepare_photos(self, regions_KRD: Tensor) -> Any:
        """All that scoring needs of K photos, as a NamedTuple of tensors that begin with K."""

    @abstractmethod
    def prepare_captions(self, words_KWD: Tensor) -> Any:
        """All that scoring needs of K captions, likewise."""

    @abstractmethod
    def score_pairs(self, photos: Any, captions: Any, by: Pairing, products: torch.dtype | None = None) -> Tensor:
        """Scores of the pairs, in the shape of their letters; `products` as for `score_block`."""

    def photo_groups(self, regions: Sequence[Tensor] | Tensor) -> list[Group]:
        """Prepared groups of B photos: a tensor B x R x D, or one R_b x D for each."""
        return grouped(regions, self.prepare_photos)

    def caption_groups(self, words: Sequence[Tensor]) -> list[Group]:
        """Prepared groups of C captions, one W_c x D for each."""
        return grouped(words, self.prepare_captions)

    def score_block(
        self, photos: Sequence[Group], captions: Sequence[Group], products: torch.dtype | None = None
    ) -> Tensor:
        """Scores B x C of every photo with every caption, rows and columns in the order of the items.

        `products` is the type in which the widest products multiply; None: that of the items.
        """
        caption_tiles = [tile for group in captions for tile in _split(group.side, TILE_CAPTIONS)]
        columns_C = torch.cat([group.rows_K for group in captions]).argsort()
        rows = [
            torch.cat([self.score_pairs(photo_tile, tile, BLOCK, products) for tile in caption_tiles], dim=1)
            for group in photos
            for photo_tile in _split(group.side, TILE_PHOTOS)
        ]
        return torch.cat(rows)[torch.cat([group.rows_K for group in photos]).argsort()][:, columns_C]

    def score_list(
        self,
        photos: Sequence[Group],
        captions: Sequence[Group],
        photo_of_pair: Tensor,
        caption_of_pair: Tensor,
        products: torch.dtype | None = None,
    ) -> Tensor:
        """Scores P of P chosen pairs (places of their photos and captions), at the cost of P pairs."""
        photo_group, photo_place = _places(photos, photo_of_pair)
        caption_group, caption_place = _places(captions, caption_of_pair)
        found, scores = [], []
        for a, b in torch.unique(torch.stack([photo_group, caption_group]), dim=1).T.tolist():
            pairs = ((photo_group == a) & (caption_group == b)).nonzero()[:, 0]
            for some in pairs.split(LISTED):
                side_a, side_b = take(photos[a].side, photo_place[some]), take(captions[b].side, caption_place[some])
                found.append(some)
                scores.append(self.score_pairs(side_a, side_b, LIST, products))
        return torch.cat(scores)[torch.cat(found).argsort()]

    def forward(self, regions: Sequence[Tensor] | Tensor, words: Sequence[Tensor]) -> Tensor:
        """Scores B x C of B photos (B x R x D, or one R_b x D each) with C captions (one W_c x D each)."""
        if not len(regions) or not words:
            some = regions if isinstance(regions, Tensor) else next(iter([*regions, *words]), torch.empty(0))
            return some.new_zeros(len(regions), len(words))
        return self.score_block(self.photo_groups(regions), self.caption_groups(words))


def dot_products(x_KRD: Tensor, y_LWD: Tensor, by: Pairing, dtype: torch.dtype | None) -> Tensor:
    """Dot products of all vectors of every pair, pairs x R x W, multiplied in `dtype` (None: as they come)."""
    x, y = x_KRD.to(dtype or x_KRD.dtype), y_LWD.to(dtype or y_LWD.dtype)
    if by is LIST:
        return (x @ y.transpose(1, 2)).to(x_KRD.dtype)
    block = (x.flatten(0, 1) @ y.flatten(0, 1).T).to(x_KRD.dtype)
    # What follows sums over R and W many times: worth a copy into the order of the pairs.
    return block.unflatten(0, x.shape[:2]).unflatten(2, y.shape[:2]).transpose(1, 2).contiguous()


def _places(groups: Sequence[Group], items_P: Tensor) -> tuple[Tensor, Tensor]:
    """For every item its group and its place in the group."""
    rows = torch.cat([group.rows_K for group in groups])
    group = torch.cat([torch.full_like(g.rows_K, number) for number, g in enumerate(groups)])
    place = torch.cat([torch.arange(len(g.rows_K), device=rows.device) for g in groups])
    order = rows.argsort()
    return group[order][items_P], place[order][items_P]


def _split(side: Any, size: int) -> list[Any]:
    if len(side[0]) <= size:
        return [side]
    return [type(side)(*part) for part in zip(*(x.split(size) for x in side), strict=True)]


def take(side: Any, rows: Tensor) -> Any:
    """The chosen items of a prepared side."""
    return type(side)(*(x.index_select(0, rows) for x in side))
