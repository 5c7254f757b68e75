"""The training objective: from a batch of features and captions to a loss, with as few pairs as the loss needs.

With hardest negatives only the B positives and at most 2 B negatives of the B x B pairs enter the loss (Eq. 17). All
pairs are scored once without gradients, the hardest are picked, and forward and backward run for those pairs alone:
exact, since the score of a pair depends on nothing but the pair.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shan_model.block_form import BlockForm
from shan_model.loss import hardest_negatives, ranking_loss
from shan_model.model import SHAN


class RankingObjective(nn.Module):
    """A module around the model, so that DDP sees one forward pass for one loss."""

    def __init__(self, model: SHAN, margin: float) -> None:
        super().__init__()
        self.model, self.margin = model, margin

    def forward(self, regions_BRF: Tensor, captions: Sequence[str], photo_of_row: Tensor, hardest: bool) -> Tensor:
        """The loss of B photos with B captions, caption i of photo i; rows of one photo are no negatives [D]."""
        regions, words = self.model.encode_photos(regions_BRF), self.model.encode_captions(captions)
        photo_of_row = photo_of_row.to(regions_BRF.device)
        if hardest:
            return mined_ranking_loss(self.model.alignment, regions, words, photo_of_row, margin=self.margin)
        scores_BB = self.model.alignment(regions, words)
        return ranking_loss(scores_BB, photo_of_row, margin=self.margin, hardest=False)


def mined_ranking_loss(
    alignment: BlockForm,
    regions: Sequence[Tensor] | Tensor,
    words: Sequence[Tensor],
    photo_of_row: Tensor,
    *,
    margin: float,
) -> Tensor:
    """`ranking_loss` with hardest negatives of B encoded photos and captions, at the backward cost of <= 3 B pairs."""
    with torch.no_grad():
        mined = hardest_negatives(alignment(regions, words), photo_of_row, margin=margin)
    positive_B = torch.arange(len(words), device=photo_of_row.device)
    scores = alignment.score_list(
        alignment.photo_groups(regions),
        alignment.caption_groups(words),
        torch.cat([positive_B, mined.photo]),
        torch.cat([positive_B, mined.caption]),
    )
    positive, negative = scores[: len(words)], scores[len(words) :]
    # The positives stay in the graph even if no negative is left: DDP waits for every parameter's gradient.
    return (margin - positive[mined.row] + negative).clamp(min=0).sum() + 0 * positive.sum()
