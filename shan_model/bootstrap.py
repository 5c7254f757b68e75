"""Bootstrap intervals of retrieval recalls: photos are resampled together with their captions, as queries.

The gallery stays complete, so no pair is scored or ranked again. Percentile intervals follow Efron and Tibshirani, An
Introduction to the Bootstrap (1993), chapter 13. Two models on one split are compared on the same resamples (paired).
Shapes: S resamples, N photos of a gallery, 6 recalls in the order of `Recalls`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shan_model.metrics import CUTS, Ranks

RESAMPLES = 4000
_MAX_COUNTS = 1 << 22
"""Draw counts (one per photo and resample) held in memory at a time: 32 MiB."""


def resample_recalls(
    folds: Sequence[Ranks], photo_of_caption: Sequence[NDArray[np.integer]], resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Returns recalls S x 6 in per cent, the mean over the folds; the photos of each fold are resampled separately.

    `photo_of_caption` holds the argument of `retrieval_ranks` for each fold. The resamples depend only on the seed and
    the number of photos: two models on one split get the same ones, so their rows can be subtracted.
    """
    recalls = [
        _resample_fold(ranks, owners, resamples, np.random.default_rng([seed, number]))
        for number, (ranks, owners) in enumerate(zip(folds, photo_of_caption, strict=True))
    ]
    return np.mean(recalls, axis=0)


def interval(values_S: NDArray[np.floating], confidence: float = 0.95) -> tuple[float, float]:
    """Returns the two-sided percentile interval."""
    low, high = np.quantile(values_S, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def lower_bound(values_S: NDArray[np.floating], confidence: float = 0.95) -> float:
    """Returns the one-sided lower bound: a fraction `confidence` of the resamples is at or above it."""
    return float(np.quantile(values_S, 1 - confidence))


def upper_bound(values_S: NDArray[np.floating], confidence: float = 0.95) -> float:
    """Returns the one-sided upper bound: a fraction `confidence` of the resamples is at or below it."""
    return float(np.quantile(values_S, confidence))


def _resample_fold(
    ranks: Ranks, owners_C: NDArray[np.integer], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    photos, cuts = len(ranks.image_to_text_N), len(CUTS)
    image_hits_N3 = np.stack([ranks.image_to_text_N < k for k in CUTS], axis=1).astype(np.float64)
    caption_hits_N3 = np.stack([np.bincount(owners_C, ranks.text_to_image_C < k, minlength=photos) for k in CUTS], 1)
    captions_N = np.bincount(owners_C, minlength=photos).astype(np.float64)
    recalls_S6 = np.empty((resamples, 2 * cuts))
    height = max(1, _MAX_COUNTS // photos)
    for top in range(0, resamples, height):
        rows = slice(top, min(top + height, resamples))
        counts_SN = draw_counts(rng, rows.stop - rows.start, photos).astype(np.float64)
        recalls_S6[rows, :cuts] = counts_SN @ image_hits_N3 / photos
        recalls_S6[rows, cuts:] = counts_SN @ caption_hits_N3 / (counts_SN @ captions_N)[:, None]
    return 100 * recalls_S6


def draw_counts(rng: np.random.Generator, resamples: int, photos: int) -> NDArray[np.int64]:
    """Returns S x N: how often each of N photos occurs in a sample of N drawn with replacement, for S samples."""
    rows_SN = rng.integers(photos, size=(resamples, photos)) + photos * np.arange(resamples)[:, None]
    return np.bincount(rows_SN.ravel(), minlength=resamples * photos).reshape(resamples, photos)
