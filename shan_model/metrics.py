"""Retrieval metrics of a score matrix: recall at K, rSum and median rank in both directions.

Image-to-text retrieval ranks all captions for a photo, text-to-image retrieval ranks all photos for a caption.
Recalls are in per cent. Ties count against the model. Shapes: N photos, C captions.
"""

from dataclasses import asdict, dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

CUTS = (1, 5, 10)
"""The values of K."""


@dataclass(frozen=True)
class Recalls:
    """Recall at 1, 5 and 10 in both directions, in per cent."""

    image_to_text_r1: float
    image_to_text_r5: float
    image_to_text_r10: float
    text_to_image_r1: float
    text_to_image_r5: float
    text_to_image_r10: float

    @property
    def image_to_text_sum(self) -> float:
        """Sum of the three image-to-text recalls, at most 300."""
        return self.image_to_text_r1 + self.image_to_text_r5 + self.image_to_text_r10

    @property
    def text_to_image_sum(self) -> float:
        """Sum of the three text-to-image recalls, at most 300."""
        return self.text_to_image_r1 + self.text_to_image_r5 + self.text_to_image_r10

    @property
    def rsum(self) -> float:
        """Sum of the six recalls, at most 600."""
        return sum(asdict(self).values())

    def as_metrics(self) -> dict[str, float]:
        """Returns the six recalls and `rsum` by name: the metrics that a run logs."""
        return {**asdict(self), "rsum": self.rsum}

    def with_sums(self) -> dict[str, float]:
        """Returns the six recalls, the sum of each direction and `rsum` by name."""
        sums = {"image_to_text_sum": self.image_to_text_sum, "text_to_image_sum": self.text_to_image_sum}
        return {**asdict(self), **sums, "rsum": self.rsum}


@dataclass(frozen=True)
class Ranks:
    """Number of wrong items ranked before the first correct one, per query (0 is best)."""

    image_to_text_N: NDArray[np.int64]
    """Per photo, among all captions."""
    text_to_image_C: NDArray[np.int64]
    """Per caption, among all photos."""

    def recalls(self) -> Recalls:
        """Returns the fraction of queries with a correct item among the first K, in per cent."""
        directions = (self.image_to_text_N, self.text_to_image_C)
        return Recalls(*(100 * float((rank < k).mean()) for rank in directions for k in CUTS))

    def medians(self) -> dict[str, float]:
        """Returns `image_to_text_median_rank` and `text_to_image_median_rank`, counted from 1."""
        return {
            "image_to_text_median_rank": float(np.median(self.image_to_text_N)) + 1,
            "text_to_image_median_rank": float(np.median(self.text_to_image_C)) + 1,
        }


def retrieval_ranks(
    scores_NC: NDArray[np.floating], photo_of_caption: NDArray[np.integer], block_rows: int = 256
) -> Ranks:
    """Computes the ranks of both directions; `photo_of_caption[c]` is the row of the photo that caption c describes.

    In image-to-text retrieval any of the photo's captions is correct (the field's protocol). A wrong item that ties
    with the correct one ranks before it. The matrix is read twice, `block_rows` rows at a time, so it may be a memory
    map larger than memory. Raises ValueError if a score is not finite, if the matrix does not have one column per
    caption, and if a photo has no caption or a caption no photo.
    """
    _check_gallery(scores_NC, photo_of_caption)
    photos, captions = scores_NC.shape
    row_blocks = [slice(top, min(top + block_rows, photos)) for top in range(0, photos, block_rows)]
    positive_C = np.empty(captions, dtype=scores_NC.dtype)
    not_finite = 0
    for rows in row_blocks:
        block = np.asarray(scores_NC[rows])
        not_finite += int((~np.isfinite(block)).sum())
        own = np.flatnonzero((photo_of_caption >= rows.start) & (photo_of_caption < rows.stop))
        positive_C[own] = block[photo_of_caption[own] - rows.start, own]
    if not_finite:
        raise ValueError(f"{not_finite} of {scores_NC.size} scores are not finite; all scores must be finite")
    best_N = np.full(photos, -np.inf, dtype=scores_NC.dtype)
    np.maximum.at(best_N, photo_of_caption, positive_C)
    image_to_text_N, text_to_image_C = np.empty(photos, dtype=np.int64), np.zeros(captions, dtype=np.int64)
    for rows in row_blocks:
        block = np.asarray(scores_NC[rows])
        wrong = photo_of_caption[None, :] != np.arange(rows.start, rows.stop)[:, None]
        image_to_text_N[rows] = ((block >= best_N[rows, None]) & wrong).sum(axis=1)
        text_to_image_C += ((block >= positive_C[None, :]) & wrong).sum(axis=0)
    return Ranks(image_to_text_N, text_to_image_C)


def _check_gallery(scores_NC: NDArray[np.floating], photo_of_caption: NDArray[np.integer]) -> None:
    if scores_NC.ndim != 2 or scores_NC.shape[1] != len(photo_of_caption):
        raise ValueError(
            f"scores have shape {scores_NC.shape} but there are {len(photo_of_caption)} captions; "
            "pass a matrix with one column per caption"
        )
    captions_of_photo = np.bincount(photo_of_caption, minlength=len(scores_NC))
    if len(captions_of_photo) != len(scores_NC) or not captions_of_photo.all():
        raise ValueError("every photo needs a caption and every caption a photo to measure retrieval")


def retrieval_recalls(scores_NC: NDArray[np.floating], photo_of_caption: NDArray[np.integer]) -> Recalls:
    """Returns `retrieval_ranks(...).recalls()`."""
    return retrieval_ranks(scores_NC, photo_of_caption).recalls()


def random_recalls(photo_of_caption: NDArray[np.integer]) -> Recalls:
    """Returns the random baseline: the exact expected recalls of a uniformly random ranking (hypergeometric)."""
    captions_of_photo = np.bincount(photo_of_caption)
    photos, captions = len(captions_of_photo), len(photo_of_caption)

    def image_to_text(k: int) -> float:
        if k >= captions:
            return 100.0
        missed = [comb(captions - int(own), k) / comb(captions, k) for own in captions_of_photo]
        return 100 * (1 - float(np.mean(missed)))

    return Recalls(*(image_to_text(k) for k in CUTS), *(100 * min(1.0, k / photos) for k in CUTS))
