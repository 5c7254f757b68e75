"""How far recalls may be trusted: bootstrap over photos. A photo and its captions are drawn together, as queries; the
gallery stays as it is, so nothing is scored or ranked again.

S resamples, N photos of a gallery, 6 the recalls in the order of `Recalls`. Percentile intervals: Efron and Tibshirani,
An Introduction to the Bootstrap (1993), chapter 13; figures that are compared are drawn alike (paired).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shan_model.metrics import CUTS, Ranks

RESAMPLES = 4000
_AT_ONCE = 1 << 22
"""Counts of photos that are held at a time: 32 MiB."""


def resample_recalls(
    folds: Sequence[Ranks], photo_of_caption: Sequence[NDArray[np.integer]], resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Recalls S x 6 in per cent, the mean over the folds, whose photos are drawn each by itself.

    `photo_of_caption` is that of `retrieval_ranks`, fold by fold. The draws depend on seed and number of photos alone:
    two models on one split get the same, so that rows may be subtracted.
    """
    draws = [
        _resample_fold(ranks, owners, resamples, np.random.default_rng([seed, number]))
        for number, (ranks, owners) in enumerate(zip(folds, photo_of_caption, strict=True))
    ]
    return np.mean(draws, axis=0)


def interval(values_S: NDArray[np.floating], confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided percentile interval."""
    low, high = np.quantile(values_S, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def lower_bound(values_S: NDArray[np.floating], confidence: float = 0.95) -> float:
    """What a share `confidence` of the resamples reach: the end of a one-sided interval."""
    return float(np.quantile(values_S, 1 - confidence))


def upper_bound(values_S: NDArray[np.floating], confidence: float = 0.95) -> float:
    """What a share `confidence` of the resamples do not pass: the end of a one-sided interval."""
    return float(np.quantile(values_S, confidence))


def _resample_fold(
    ranks: Ranks, owners_C: NDArray[np.integer], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    photos = len(ranks.text_N)
    text_N3 = np.stack([ranks.text_N < k for k in CUTS], axis=1).astype(np.float64)
    image_N3 = np.stack([np.bincount(owners_C, ranks.image_C < k, minlength=photos) for k in CUTS], axis=1)
    captions_N = np.bincount(owners_C, minlength=photos).astype(np.float64)
    drawn_S6 = np.empty((resamples, 2 * len(CUTS)))
    height = max(1, _AT_ONCE // photos)
    for top in range(0, resamples, height):
        rows = slice(top, min(top + height, resamples))
        counts_SN = draw_counts(rng, rows.stop - rows.start, photos).astype(np.float64)
        drawn_S6[rows, : len(CUTS)] = counts_SN @ text_N3 / photos
        drawn_S6[rows, len(CUTS) :] = counts_SN @ image_N3 / (counts_SN @ captions_N)[:, None]
    return 100 * drawn_S6


def draw_counts(rng: np.random.Generator, resamples: int, photos: int) -> NDArray[np.int64]:
    """How often each of N photos is drawn when N are drawn with replacement, S times: S x N."""
    rows_SN = rng.integers(photos, size=(resamples, photos)) + photos * np.arange(resamples)[:, None]
    return np.bincount(rows_SN.ravel(), minlength=resamples * photos).reshape(resamples, photos)
