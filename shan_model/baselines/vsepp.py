"""VSE++ (Faghri et al., BMVC 2018): one vector per photo, one per caption, and their cosine.

Shapes: K items of a group, R regions, W words, D joint width, B photos.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from shan_model.batched_matcher import BatchedMatcher, Pairing, dot_products
from shan_model.padding import mean_vectors


class VseppItems(NamedTuple):
    """K photos or captions."""

    unit: Tensor
    """K x 1 x D: f(i) or g(c), L2-normalised; the second axis stands for a single region or word."""


class VSEPP(BatchedMatcher):
    """s(i, c) = f(i) . g(c), with both L2-normalised (Section 2.1). Train it with the hardest-negative loss.

    Deviation from the paper: f is the mean of the photo's regions v_i and g the mean of the words t_j, where the paper
    pools the last layer of a CNN and takes the last state of a GRU. It therefore differs from the other matchers here
    in the score alone.
    """

    def prepare_photos(self, regions_KRD: Tensor, padding_KR: Tensor) -> VseppItems:
        """Prepares K photos of R regions."""
        return VseppItems(functional.normalize(mean_vectors(regions_KRD, padding_KR), dim=-1, eps=1e-8)[:, None])

    def prepare_captions(self, words_KWD: Tensor, padding_KW: Tensor) -> VseppItems:
        """Prepares K captions of W words."""
        return self.prepare_photos(words_KWD, padding_KW)

    def score_pairs(
        self,
        photos: VseppItems,
        captions: VseppItems,
        pairing: Pairing,
        matmul_dtype: torch.dtype | None = None,  # noqa: ARG002 - one signature for all matchers
    ) -> Tensor:
        """Returns the cosines of the pairs, in the shape of `pairing.pair`.

        The only product of a pair is its score, which has few different values in bf16, so `matmul_dtype` is not used.
        """
        return dot_products(photos.unit, captions.unit, pairing, None)[..., 0, 0]

    def word_attention(self, regions_BRD: Tensor, words_WD: Tensor) -> Tensor:
        """Returns B x R x W (sums to 1 over R): the mean attends to each region with 1/R, whatever the word."""
        batch, regions, _ = regions_BRD.shape
        return regions_BRD.new_full((batch, regions, len(words_WD)), 1 / regions)
