"""The training objective: from a batch of features and captions to a loss, with as few pairs as the loss needs.

With hardest negatives only the B positives and at most 2 B negatives of the B x B pairs enter the loss (Eq. 17). All
pairs are scored once without gradients, the hardest are picked, and forward and backward run for those pairs alone:
exact, since the score of a pair depends on nothing but the pair.

Under torch.distributed the batch is that of all ranks together. Every rank scores its own photos with all captions to
find the negatives, and owns the terms of the loss that its own rows are the positives of.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from shan_model.batched_matcher import BatchedMatcher
from shan_model.gather import gather_matrices, gather_rows, world
from shan_model.loss import hardest_negatives, ranking_loss
from shan_model.model import SHAN


class RankingObjective(nn.Module):
    """A module around the model, so that DDP sees one forward pass for one loss.

    `products` multiplies the encoders (by autocast) and the widest products of the alignment in a narrower type, as
    torch.bfloat16; everything else stays in the model's own.
    """

    def __init__(self, model: SHAN, margin: float, products: torch.dtype | None = None) -> None:
        super().__init__()
        self.model, self.margin, self.products = model, margin, products

    def forward(
        self, regions: Tensor | Sequence[Tensor], captions: Sequence[str], photo_of_row: Tensor, hardest: bool
    ) -> Tensor:
        """This rank's part of the loss of a batch, times the number of ranks: the mean over them is the loss.

        `regions`: B x R x F, or one R_b x F each; caption i describes photo i; rows of one photo are no negatives [D].
        """
        with nullcontext() if self.products is None else torch.autocast(photo_of_row.device.type, self.products):
            encoded = [*self.model.encode_photos(regions), *self.model.encode_captions(captions)]
        dtype = self.model.image_encoder.project.weight.dtype
        ranks = gather_matrices([matrix.to(dtype) for matrix in encoded])
        sides = [(matrices[: len(matrices) // 2], matrices[len(matrices) // 2 :]) for matrices in ranks]
        before = sum(len(photos) for photos, _ in sides[: world()[0]])
        loss = mined_ranking_loss if hardest else mean_ranking_loss
        part = loss(
            self.model.alignment,
            [matrix for photos, _ in sides for matrix in photos],
            [matrix for _, words in sides for matrix in words],
            gather_rows(photo_of_row),
            margin=self.margin,
            own=slice(before, before + len(captions)),
            products=self.products,
        )
        return len(ranks) * part


def mined_ranking_loss(
    alignment: BatchedMatcher,
    photos: Sequence[Tensor],
    words: Sequence[Tensor],
    photo_of_row: Tensor,
    *,
    margin: float,
    own: slice = slice(None),
    products: torch.dtype | None = None,
) -> Tensor:
    """The own rows' part of `ranking_loss` with hardest negatives, at the backward cost of <= 3 pairs a row.

    `photos` and `words` are the encodings of the whole batch, which all ranks have.
    """
    with torch.no_grad():
        scores_BB = gather_rows(_scores(alignment, photos[own], words, products))
        mined = hardest_negatives(scores_BB, photo_of_row, margin=margin)
    positive = torch.arange(len(photos), device=photo_of_row.device)[own]
    mine = torch.isin(mined.row, positive)
    # Only what these pairs need is prepared: with many ranks that is little of the batch.
    photo, photo_of_pair = torch.cat([positive, mined.photo[mine]]).unique(return_inverse=True)
    caption, caption_of_pair = torch.cat([positive, mined.caption[mine]]).unique(return_inverse=True)
    scores = alignment.score_list(
        alignment.photo_groups([photos[i] for i in photo.tolist()]),
        alignment.caption_groups([words[i] for i in caption.tolist()]),
        photo_of_pair,
        caption_of_pair,
        products,
    )
    positives, negatives = scores[: len(positive)], scores[len(positive) :]
    terms = (margin - positives[mined.row[mine] - positive[0]] + negatives).clamp(min=0)
    # The positives stay in the graph even if no negative is left: DDP waits for every parameter's gradient.
    return terms.sum() + 0 * positives.sum()


def mean_ranking_loss(
    alignment: BatchedMatcher,
    photos: Sequence[Tensor],
    words: Sequence[Tensor],
    photo_of_row: Tensor,
    *,
    margin: float,
    own: slice = slice(None),
    products: torch.dtype | None = None,
) -> Tensor:
    """The own rows' share of `ranking_loss` over the mean of all violations: the same part of it for every rank."""
    scores_BB = gather_rows(_scores(alignment, photos[own], words, products))
    loss = ranking_loss(scores_BB, photo_of_row, margin=margin, hardest=False)
    return loss / world()[1]


def _scores(
    alignment: BatchedMatcher, photos: Sequence[Tensor], words: Sequence[Tensor], products: torch.dtype | None
) -> Tensor:
    return alignment.score_block(alignment.photo_groups(photos), alignment.caption_groups(words), products)
