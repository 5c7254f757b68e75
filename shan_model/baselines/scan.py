"""SCAN, stacked cross attention (Lee et al., ECCV 2018, Eq. 1 to 9), in both directions and with both poolings.

Image-Text (i2t): each region attends to the words and is compared with its attended vector. Text-Image (t2i): each word
attends to the regions. No tensor of width D per pair is formed (see `attention.py`): query . attended =
sum_m weights_nm (query_n . key_m) and |attended|^2 = weights_n Gram weights_n.

Shapes: K items of a group, R regions, W words, D joint width, B photos; N vectors of a query item, M vectors of a key
item; `pairs` stands for the leading axes of the pairs.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from shan_model.batched_matcher import BatchedMatcher, Pairing, dot_products
from shan_model.config import ModelConfig
from shan_model.padding import hide, mean_over_pairs

LAMBDAS = {"scan-t2i": (9.0, 6.0), "scan-i2t": (4.0, 5.0)}
"""lambda1 (inverse temperature of the attention) and lambda2 (LogSumExp), as published by the authors for Flickr30K.

Their values for COCO are the same, except that lambda2 of i2t is 20 (`config.scan_lse_factor`).
"""


class ScanItems(NamedTuple):
    """K photos or captions of N vectors each."""

    unit: Tensor
    """K x N x D: v_i or e_j, L2-normalised."""
    norms: Tensor
    """K x N: norms before the normalisation."""
    gram: Tensor
    """K x N x N: dot products of an item's vectors, not normalised, with each other."""
    padding: Tensor
    """K x N: see `padding.py`; K x 0 if no item is padded."""


class SCAN(BatchedMatcher):
    """S(I, T) of Eq. 5, 6, 8 and 9; `config.matcher` names the direction, `config.scan_pooling` the pooling."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.regions_query = config.matcher == "scan-i2t"
        self.lambda1, published = LAMBDAS[config.matcher]
        self.lambda2 = config.scan_lse_factor or published
        self.pooling = config.scan_pooling

    def prepare_photos(self, regions_KRD: Tensor, padding_KR: Tensor) -> ScanItems:
        """Prepares K photos of R regions."""
        return ScanItems(
            unit=_unit(regions_KRD),
            norms=torch.linalg.vector_norm(regions_KRD, dim=-1),
            gram=regions_KRD @ regions_KRD.transpose(1, 2),
            padding=padding_KR,
        )

    def prepare_captions(self, words_KWD: Tensor, padding_KW: Tensor) -> ScanItems:
        """Prepares K captions of W words."""
        return self.prepare_photos(words_KWD, padding_KW)

    def score_pairs(
        self,
        photos: ScanItems,
        captions: ScanItems,
        pairing: Pairing,
        matmul_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Returns S(I, T) of the pairs, in the shape of `pairing.pair`."""
        photo, caption, pair = pairing
        cosines = dot_products(photos.unit, captions.unit, pairing, matmul_dtype)  # Eq. 1
        logits = self._logits(cosines)
        if self.regions_query:
            padding, query = photos.padding, photo
            relevance = _relevance(captions, logits, cosines, caption, pair)
        else:
            padding, query = captions.padding, caption
            relevance = _relevance(photos, logits.transpose(-1, -2), cosines.transpose(-1, -2), photo, pair)
        if self.pooling == "mean":
            return mean_over_pairs(relevance, padding, query, pair)  # Eq. 6 and 9
        return hide(self.lambda2 * relevance, padding, query, pair).logsumexp(dim=-1) / self.lambda2  # Eq. 5 and 8

    def word_attention(self, regions_BRD: Tensor, words_WD: Tensor) -> Tensor:
        """Returns each word's attention to the regions, B x R x W (sums to 1 over R).

        In t2i this is alpha' of the score. In i2t, where only regions attend, it is the same softmax over the regions.
        """
        return self._logits(_unit(regions_BRD) @ _unit(words_WD).T).softmax(dim=1)

    def _logits(self, cosines_RW: Tensor) -> Tensor:
        """Returns lambda1 s-bar (... x R x W): [s]_+ L2-normalised over the vectors that query.

        The published code uses LeakyReLU(0.1) where the paper, which is followed here, has [s]_+.
        """
        return self.lambda1 * functional.normalize(cosines_RW.relu(), dim=-2 if self.regions_query else -1, eps=1e-8)


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=-1, eps=1e-8)


def _relevance(keys: ScanItems, logits: Tensor, cosines: Tensor, key: str, pair: str) -> Tensor:
    """Returns R(v_i, a_i) of Eq. 2 to 4, or R(e_j, a_j) of Eq. 7 (pairs x N), from pairs x N x M.

    `key` and `pair` are the einsum subscripts of the key items and of the pairs.
    """
    weights = hide(logits, keys.padding, key, pair).softmax(dim=-1)
    dots = torch.einsum(f"{pair}nm,{key}m->{pair}n", weights * cosines, keys.norms)
    squares = (torch.einsum(f"{pair}nm,{key}mk->{pair}nk", weights, keys.gram) * weights).sum(dim=-1)
    return dots / squares.clamp(min=1e-16).sqrt()
