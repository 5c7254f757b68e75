"""Retrieval metrics both ways, with ties counted against the model, and what chance would reach."""

from dataclasses import asdict, dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

CUTS = (1, 5, 10)


@dataclass(frozen=True)
class Recalls:
    """Recall at 1, 5 and 10 in per cent. `text_*`: a photo asks for captions; `image_*`: a caption for its photo."""

    text_r1: float
    text_r5: float
    text_r10: float
    image_r1: float
    image_r5: float
    image_r10: float

    @property
    def rsum(self) -> float:
        """Sum of the six recalls, at most 600."""
        return sum(asdict(self).values())

    def as_metrics(self) -> dict[str, float]:
        """The six recalls and `rsum` by name."""
        return {**asdict(self), "rsum": self.rsum}


def retrieval_recalls(scores_NC: NDArray[np.floating], photo_of_caption: NDArray[np.integer]) -> Recalls:
    """Recalls of a score matrix; `photo_of_caption[c]` is the row of the photo that caption c describes.

    Text retrieval is a hit when any of the photo's captions is in the first K (the field's protocol). A negative
    that ties with the positive ranks before it. Raises ValueError for scores that are not finite, for a matrix of
    another shape and for a photo without captions.
    """
    if scores_NC.ndim != 2 or scores_NC.shape[1] != len(photo_of_caption):
        raise ValueError(f"scores of shape {scores_NC.shape} do not fit {len(photo_of_caption)} captions")
    if not np.isfinite(scores_NC).all():
        raise ValueError(f"{(~np.isfinite(scores_NC)).sum()} of {scores_NC.size} scores are not finite; none may be")
    captions_of_photo = np.bincount(photo_of_caption, minlength=len(scores_NC))
    if len(captions_of_photo) != len(scores_NC) or not captions_of_photo.all():
        raise ValueError("every photo needs a caption and every caption a photo to measure retrieval")
    mine_NC = np.arange(len(scores_NC))[:, None] == photo_of_caption[None, :]
    best_N = np.where(mine_NC, scores_NC, -np.inf).max(axis=1)
    text_rank_N = ((scores_NC >= best_N[:, None]) & ~mine_NC).sum(axis=1)
    own_C = scores_NC[photo_of_caption, np.arange(scores_NC.shape[1])]
    image_rank_C = ((scores_NC >= own_C[None, :]) & ~mine_NC).sum(axis=0)
    return Recalls(*(100 * float((rank < k).mean()) for rank in (text_rank_N, image_rank_C) for k in CUTS))


def chance_recalls(photo_of_caption: NDArray[np.integer]) -> Recalls:
    """Expected recalls of a random ranking of the same photos and captions (hypergeometric, exact)."""
    captions_of_photo = np.bincount(photo_of_caption)
    photos, captions = len(captions_of_photo), len(photo_of_caption)

    def text(k: int) -> float:
        if k >= captions:
            return 100.0
        missed = [comb(captions - int(own), k) / comb(captions, k) for own in captions_of_photo]
        return 100 * (1 - float(np.mean(missed)))

    return Recalls(*(text(k) for k in CUTS), *(100 * min(1.0, k / photos) for k in CUTS))
