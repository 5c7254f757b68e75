"""VSE++ (Faghri et al., BMVC 2018): one vector a photo, one a caption, and their cosine."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from shan_model.batched_matcher import BatchedMatcher, Pairing, dot_products


class Side(NamedTuple):
    """K photos or captions."""

    unit: Tensor
    """K x 1 x D: f(i) or g(c), of length 1, as the one region or word that is left."""


class VSEPP(BatchedMatcher):
    """s(i, c) = f(i) . g(c), both of length 1 (the paper's Section 2.1); its loss is the one with hardest negatives.

    Deviation: f is the mean of the photo's regions v_i and g the mean of the words t_j, where the paper pools the last
    layer of a CNN and takes the last state of a GRU. So it differs from the other matchers here in the score alone.
    """

    def prepare_photos(self, regions_KRD: Tensor) -> Side:
        """K photos of R regions."""
        return Side(functional.normalize(regions_KRD.mean(dim=1, keepdim=True), dim=-1, eps=1e-8))

    def prepare_captions(self, words_KWD: Tensor) -> Side:
        """K captions of W words."""
        return self.prepare_photos(words_KWD)

    def score_pairs(self, photos: Side, captions: Side, by: Pairing, products: torch.dtype | None = None) -> Tensor:
        """The cosines, in the shape of the pairs' letters."""
        return dot_products(photos.unit, captions.unit, by, products)[..., 0, 0]

    def word_attention(self, regions_BRD: Tensor, words_WD: Tensor) -> Tensor:
        """B x R x W (1 over R): a mean is attention of 1/R to every region, whatever the word."""
        batch, regions, _ = regions_BRD.shape
        return regions_BRD.new_full((batch, regions, len(words_WD)), 1 / regions)
