"""Two-stage retrieval: a cheap score picks K candidates a query, SHAN ranks them exactly.

The cheap score is the cosine of means, mean_i v_i with mean_j t_j: one vector an item, so a gallery is one product. On
real photos it kept more of SHAN's first answers than max pooling, and a surrogate distilled from SHAN's own scores
kept no more (docs/results.md).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from shan_model.batched_matcher import BatchedMatcher

Queries = Literal["photos", "captions"]


class Ranked(NamedTuple):
    """The K candidates of Q queries, best first."""

    answers_QK: Tensor
    """Captions for photos that ask, photos for captions that ask."""
    scores_QK: Tensor
    """Their exact scores."""


def pooled_cosines(regions: Sequence[Tensor] | Tensor, words: Sequence[Tensor]) -> Tensor:
    """Cosines N x C of the means of N photos' regions (R x D each) and C captions' words (W x D each)."""
    photos_ND = normalize(torch.stack([regions_RD.mean(dim=0) for regions_RD in regions]), dim=1)
    captions_CD = normalize(torch.stack([words_WD.mean(dim=0) for words_WD in words]), dim=1)
    return photos_ND @ captions_CD.T


@torch.no_grad()
def two_stage(
    alignment: BatchedMatcher, regions: Sequence[Tensor] | Tensor, words: Sequence[Tensor], queries: Queries, keep: int
) -> Ranked:
    """Ranks, for every query, its `keep` best answers by the cheap score; Q x `keep` pairs are scored exactly.

    Takes encoded photos (R x D each) and captions (W x D each), whose prepared forms must fit into memory.
    Raises ValueError for an empty gallery and for `keep` below 1.
    """
    if keep < 1 or not len(regions) or not words:
        raise ValueError(f"{len(regions)} photos, {len(words)} captions, keep {keep}: each must be at least 1")
    cheap_NC = pooled_cosines(regions, words)
    cheap_QA = cheap_NC if queries == "photos" else cheap_NC.T
    answers_QK = cheap_QA.topk(min(keep, cheap_QA.shape[1]), dim=1).indices
    asked_QK = torch.arange(len(answers_QK), device=answers_QK.device)[:, None].expand_as(answers_QK)
    pairs = (asked_QK, answers_QK) if queries == "photos" else (answers_QK, asked_QK)
    photos, captions = alignment.photo_groups(regions), alignment.caption_groups(words)
    photo_of_pair, caption_of_pair = (x.flatten() for x in pairs)
    scores_QK = alignment.score_list(photos, captions, photo_of_pair, caption_of_pair).view(answers_QK.shape)
    order_QK = scores_QK.argsort(dim=1, descending=True, stable=True)
    return Ranked(answers_QK.gather(1, order_QK), scores_QK.gather(1, order_QK))
