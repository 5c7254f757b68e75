"""Retrieval metrics both ways, streaming over a score matrix, ties counted against the model; what chance reaches."""

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
    def text_sum(self) -> float:
        """Sum of the three recalls of text retrieval, at most 300."""
        return self.text_r1 + self.text_r5 + self.text_r10

    @property
    def image_sum(self) -> float:
        """Sum of the three recalls of image retrieval, at most 300."""
        return self.image_r1 + self.image_r5 + self.image_r10

    @property
    def rsum(self) -> float:
        """Sum of the six recalls, at most 600."""
        return sum(asdict(self).values())

    def as_metrics(self) -> dict[str, float]:
        """The six recalls and `rsum` by name."""
        return {**asdict(self), "rsum": self.rsum}


@dataclass(frozen=True)
class Ranks:
    """How many wrong answers come before the first right one, per query (0 is best)."""

    text_N: NDArray[np.int64]
    """Of every photo among all captions."""
    image_C: NDArray[np.int64]
    """Of every caption among all photos."""

    def recalls(self) -> Recalls:
        """Share of queries with a right answer in the first K."""
        return Recalls(*(100 * float((rank < k).mean()) for rank in (self.text_N, self.image_C) for k in CUTS))

    def medians(self) -> dict[str, float]:
        """`text_median_rank` and `image_median_rank`, counted from 1."""
        return {
            "text_median_rank": float(np.median(self.text_N)) + 1,
            "image_median_rank": float(np.median(self.image_C)) + 1,
        }


def retrieval_ranks(
    scores_NC: NDArray[np.floating], photo_of_caption: NDArray[np.integer], rows_at_once: int = 256
) -> Ranks:
    """Ranks both ways of a score matrix; `photo_of_caption[c]` is the row of the photo that caption c describes.

    Text retrieval is right with any of the photo's captions (the field's protocol). A negative that ties with the
    positive ranks before it. The matrix is read twice, a few rows at a time, so it may be a memory map larger than
    memory. Raises ValueError for scores that are not finite, for a matrix of another shape and for a photo without
    captions.
    """
    _check_gallery(scores_NC, photo_of_caption)
    photos, captions = scores_NC.shape
    strips = [slice(top, min(top + rows_at_once, photos)) for top in range(0, photos, rows_at_once)]
    own_C = np.empty(captions, dtype=scores_NC.dtype)
    bad = 0
    for rows in strips:
        strip = np.asarray(scores_NC[rows])
        bad += int((~np.isfinite(strip)).sum())
        mine = np.flatnonzero((photo_of_caption >= rows.start) & (photo_of_caption < rows.stop))
        own_C[mine] = strip[photo_of_caption[mine] - rows.start, mine]
    if bad:
        raise ValueError(f"{bad} of {scores_NC.size} scores are not finite; none may be")
    best_N = np.full(photos, -np.inf, dtype=scores_NC.dtype)
    np.maximum.at(best_N, photo_of_caption, own_C)
    text_N, image_C = np.empty(photos, dtype=np.int64), np.zeros(captions, dtype=np.int64)
    for rows in strips:
        strip = np.asarray(scores_NC[rows])
        wrong = photo_of_caption[None, :] != np.arange(rows.start, rows.stop)[:, None]
        text_N[rows] = ((strip >= best_N[rows, None]) & wrong).sum(axis=1)
        image_C += ((strip >= own_C[None, :]) & wrong).sum(axis=0)
    return Ranks(text_N, image_C)


def _check_gallery(scores_NC: NDArray[np.floating], photo_of_caption: NDArray[np.integer]) -> None:
    if scores_NC.ndim != 2 or scores_NC.shape[1] != len(photo_of_caption):
        raise ValueError(f"scores of shape {scores_NC.shape} do not fit {len(photo_of_caption)} captions")
    captions_of_photo = np.bincount(photo_of_caption, minlength=len(scores_NC))
    if len(captions_of_photo) != len(scores_NC) or not captions_of_photo.all():
        raise ValueError("every photo needs a caption and every caption a photo to measure retrieval")


def retrieval_recalls(scores_NC: NDArray[np.floating], photo_of_caption: NDArray[np.integer]) -> Recalls:
    """`retrieval_ranks(...).recalls()`."""
    return retrieval_ranks(scores_NC, photo_of_caption).recalls()


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
