"""SCAN, stacked cross attention (Lee et al., ECCV 2018, Eq. 1 to 9), in both directions and with both poolings.

Image-Text (i2t): every region attends the words, then is compared with what it attended. Text-Image (t2i): every word
attends the regions. `N` stands for the vectors that query, `M` for those that answer.

Nothing per pair is as wide as D: own . attended = sum_m weights_nm (own_n . other_m) and |attended|^2 = weights_n Gram
weights_n.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from shan_model.batched_matcher import BatchedMatcher, Pairing, dot_products
from shan_model.config import ModelConfig

LAMBDAS = {"scan-t2i": (9.0, 6.0), "scan-i2t": (4.0, 5.0)}
"""lambda1 (inverse temperature of the attention) and lambda2 (LogSumExp), as the authors published them for Flickr30K.

For COCO they publish the same but for lambda2 of i2t, which is 20.
"""


class Side(NamedTuple):
    """K photos or captions of N vectors each."""

    unit: Tensor
    """K x N x D: v_i or e_j, brought to length 1."""
    norms: Tensor
    """K x N: their lengths before."""
    gram: Tensor
    """K x N x N: dot products among v_i or e_j as they came."""


class SCAN(BatchedMatcher):
    """S(I, T) of Eq. 5, 6, 8 and 9; `config.matcher` names the direction, `config.scan_pooling` the pooling."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.regions_query = config.matcher == "scan-i2t"
        self.lambda1, self.lambda2 = LAMBDAS[config.matcher]
        self.pooling = config.scan_pooling

    def prepare_photos(self, regions_KRD: Tensor) -> Side:
        """K photos of R regions."""
        return Side(
            unit=functional.normalize(regions_KRD, dim=-1, eps=1e-8),
            norms=torch.linalg.vector_norm(regions_KRD, dim=-1),
            gram=regions_KRD @ regions_KRD.transpose(1, 2),
        )

    def prepare_captions(self, words_KWD: Tensor) -> Side:
        """K captions of W words."""
        return self.prepare_photos(words_KWD)

    def score_pairs(self, photos: Side, captions: Side, by: Pairing, products: torch.dtype | None = None) -> Tensor:
        """S(I, T) of the pairs, in the shape of their letters."""
        i, c, p = by
        cosines = dot_products(photos.unit, captions.unit, by, products)  # Eq. 1
        logits = self._logits(cosines)
        if self.regions_query:
            relevance = _relevance(captions, logits, cosines, c, p)
        else:
            relevance = _relevance(photos, logits.transpose(-1, -2), cosines.transpose(-1, -2), i, p)
        if self.pooling == "mean":
            return relevance.mean(dim=-1)  # Eq. 6 and 9
        return (self.lambda2 * relevance).logsumexp(dim=-1) / self.lambda2  # Eq. 5 and 8

    def word_attention(self, regions_BRD: Tensor, words_WD: Tensor) -> Tensor:
        """B x R x W: how each word of a caption spreads over the regions (1 over R).

        In t2i that is alpha' of the score. In i2t, where only regions attend, it is the same softmax over the regions.
        """
        photos, words = self.prepare_photos(regions_BRD), self.prepare_captions(words_WD[None])
        return self._logits(photos.unit @ words.unit[0].T).softmax(dim=1)

    def _logits(self, cosines_RW: Tensor) -> Tensor:
        """lambda1 s-bar, ... x R x W: what is negative is cut off, the rest normalised over the vectors that query.

        The published code has LeakyReLU(0.1) where the paper, which counts here, has [s]_+.
        """
        return self.lambda1 * functional.normalize(cosines_RW.relu(), dim=-2 if self.regions_query else -1, eps=1e-8)


def _relevance(answers: Side, logits: Tensor, cosines: Tensor, x: str, p: str) -> Tensor:
    """R(v_i, a_i) of Eq. 2 to 4, or R(e_j, a_j) of Eq. 7, pairs x N, from logits and cosines pairs x N x M."""
    weights = logits.softmax(dim=-1)
    dots = torch.einsum(f"{p}nm,{x}m->{p}n", weights * cosines, answers.norms)
    squares = (torch.einsum(f"{p}nm,{x}mk->{p}nk", weights, answers.gram) * weights).sum(dim=-1)
    return dots / squares.clamp(min=1e-16).sqrt()
