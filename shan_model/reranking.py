"""Retrieve-and-rerank: a cheap score retrieves K candidates per query, the model's exact score reranks them.

The cheap score is the cosine of pooled vectors, one per item, so all scores are one matrix product. They are the means
mean_i v_i and mean_j t_j, unless the matcher has global vectors of its own. Means retained more of SHAN's top results
than max pooling, and a surrogate distilled from SHAN's scores did not retain more (docs/results.md).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from shan_model.batched_matcher import BatchedMatcher

Queries = Literal["photos", "captions"]
"""Which side the queries are on; the gallery is the other side."""


class Ranking(NamedTuple):
    """The K candidates of each of Q queries, best first."""

    items_QK: Tensor
    """Gallery indices: captions if photos are the queries, photos if captions are."""
    scores_QK: Tensor
    """Exact scores."""


def pooled_cosines(alignment: BatchedMatcher, regions: Sequence[Tensor] | Tensor, words: Sequence[Tensor]) -> Tensor:
    """Returns the cosines N x C of pooled vectors, for N photos (R x D each) and C captions (W x D each)."""
    return alignment.pooled_photos(regions) @ alignment.pooled_captions(words).T


@torch.no_grad()
def retrieve_and_rerank(
    alignment: BatchedMatcher,
    regions: Sequence[Tensor] | Tensor,
    words: Sequence[Tensor],
    queries: Queries,
    candidates: int,
) -> Ranking:
    """Ranks, for every query, the `candidates` best gallery items by the cheap score; only these are scored exactly.

    Takes encoded photos (R x D each) and captions (W x D each), whose prepared forms must fit into memory. Raises
    ValueError for an empty gallery and if `candidates` is less than 1.
    """
    if candidates < 1 or not len(regions) or not len(words):
        raise ValueError(
            f"{len(regions)} photos, {len(words)} captions, {candidates} candidates; each must be at least 1"
        )
    cheap_NC = pooled_cosines(alignment, regions, words)
    cheap_QG = cheap_NC if queries == "photos" else cheap_NC.T
    items_QK = cheap_QG.topk(min(candidates, cheap_QG.shape[1]), dim=1).indices
    query_QK = torch.arange(len(items_QK), device=items_QK.device)[:, None].expand_as(items_QK)
    photo_QK, caption_QK = (query_QK, items_QK) if queries == "photos" else (items_QK, query_QK)
    scores_QK = alignment.score_list(
        alignment.photo_groups(regions),
        alignment.caption_groups(words),
        photo_QK.flatten().cpu().numpy(),
        caption_QK.flatten().cpu().numpy(),
    ).view(items_QK.shape)
    order_QK = scores_QK.argsort(dim=1, descending=True, stable=True)
    return Ranking(items_QK.gather(1, order_QK), scores_QK.gather(1, order_QK))
