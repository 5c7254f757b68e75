"""Training objective: from a batch of features and captions to the loss, scoring as few pairs as the loss needs.

With hardest negatives, only the B positive and at most 2 B negative of the B x B pairs enter the loss (Eq. 17). All
pairs are scored once without gradients, the hardest negatives are selected, and forward and backward run for the
selected pairs only. The result is exact, because the score of a pair depends on nothing but the pair.

Under torch.distributed, the batch is the union of the batches of all ranks. Each rank scores its own photos with all
captions to find the negatives, and computes the loss terms whose positive pairs are its own rows.

Shapes: B pairs of the (union) batch, R regions, F feature width, W words, D joint width.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from shan_model.batched_matcher import BatchedMatcher
from shan_model.gather import gather_pairs, gather_rows, world
from shan_model.loss import hardest_negatives, ranking_loss
from shan_model.model import SHAN
from shan_model.ragged import Ragged, on_device

Matrices = Tensor | Sequence[Tensor]
"""N x R x D, or N matrices."""


class RankingObjective(nn.Module):
    """Wraps the model, so that DDP sees one forward pass per loss.

    `matmul_dtype`, such as torch.bfloat16, is the autocast type of the encoders and the type of the alignment's largest
    matrix products. Everything else is computed in the model's own type.
    """

    def __init__(self, model: SHAN, margin: float, matmul_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.model, self.margin, self.matmul_dtype = model, margin, matmul_dtype

    def forward(
        self, regions: Tensor | Sequence[Tensor], captions: Sequence[str], photo_of_row_B: Tensor, hardest: bool
    ) -> Tensor:
        """Returns this rank's part of the batch's loss times the number of ranks; its mean over the ranks is the loss.

        `regions` are B x R x F, or one R_b x F each. Caption i describes photo i. `photo_of_row_B` and `hardest` are
        those of `ranking_loss`.
        """
        autocast = self.matmul_dtype is not None
        with torch.autocast(photo_of_row_B.device.type, self.matmul_dtype) if autocast else nullcontext():
            encoded = self.model.encode_photos(regions), self.model.encode_captions(captions)
        dtype = self.model.image_encoder.project.weight.dtype
        photos, words, counts = gather_pairs(*(_in(dtype, matrices) for matrices in encoded))
        rank, ranks = world()
        rows_before = sum(counts[:rank])
        loss = mined_ranking_loss if hardest else mean_ranking_loss
        part = loss(
            self.model.alignment,
            photos,
            words,
            gather_rows(photo_of_row_B, counts),
            margin=self.margin,
            own_rows=slice(rows_before, rows_before + len(captions)),
            matmul_dtype=self.matmul_dtype,
        )
        return ranks * part


def _in(dtype: torch.dtype, matrices: Matrices) -> Matrices:
    return matrices.to(dtype) if isinstance(matrices, (Tensor, Ragged)) else Ragged.of(matrices).to(dtype)


def mined_ranking_loss(
    matcher: BatchedMatcher,
    photos: Matrices,
    words: Matrices,
    photo_of_row_B: Tensor,
    *,
    margin: float,
    own_rows: slice = slice(None),
    matmul_dtype: torch.dtype | None = None,
) -> Tensor:
    """Returns the terms of `ranking_loss` with hardest negatives that belong to this rank's rows.

    `photos` and `words` are the encodings of the complete batch, which all ranks hold. The backward pass runs for at
    most 3 pairs per row.
    """
    with torch.no_grad():
        scores_BB = gather_rows(_scores(matcher, photos[own_rows], words, matmul_dtype))
        # On the CPU, so that the selection of pairs waits for a GPU once.
        mined = hardest_negatives(scores_BB.cpu(), photo_of_row_B.cpu(), margin=margin)
    positive = torch.arange(len(photos))[own_rows]
    mine = torch.isin(mined.row, positive)
    # Only the items of these pairs are prepared: with many ranks they are a small part of the batch.
    photo, photo_of_pair_P = torch.cat([positive, mined.photo[mine]]).unique(return_inverse=True)
    caption, caption_of_pair_P = torch.cat([positive, mined.caption[mine]]).unique(return_inverse=True)
    scores_P = matcher.score_list(
        matcher.photo_groups(_selected(photos, photo)),
        matcher.caption_groups(_selected(words, caption)),
        photo_of_pair_P.numpy(),
        caption_of_pair_P.numpy(),
        matmul_dtype,
    )
    positives, negatives = scores_P[: len(positive)], scores_P[len(positive) :]
    row = on_device((mined.row[mine] - positive[0]).numpy(), scores_P)
    terms = (margin - positives.index_select(0, row) + negatives).clamp(min=0)
    # The positives stay in the graph even if no negative is left: DDP waits for the gradient of every parameter.
    return terms.sum() + 0 * positives.sum()


def mean_ranking_loss(
    matcher: BatchedMatcher,
    photos: Matrices,
    words: Matrices,
    photo_of_row_B: Tensor,
    *,
    margin: float,
    own_rows: slice = slice(None),
    matmul_dtype: torch.dtype | None = None,
) -> Tensor:
    """Returns an equal part, for each rank, of `ranking_loss` over the mean of all violations."""
    scores_BB = gather_rows(_scores(matcher, photos[own_rows], words, matmul_dtype))
    loss = ranking_loss(scores_BB, photo_of_row_B, margin=margin, hardest=False)
    return loss / world()[1]


def _selected(matrices: Matrices, rows: Tensor) -> Matrices:
    """Returns the matrices of distinct rows in ascending order."""
    return matrices if len(rows) == len(matrices) else [matrices[row] for row in rows.tolist()]


def _scores(matcher: BatchedMatcher, photos: Matrices, words: Matrices, matmul_dtype: torch.dtype | None) -> Tensor:
    return matcher.score_block(matcher.photo_groups(photos), matcher.caption_groups(words), matmul_dtype)
