"""Published evaluation protocols: which photos and captions of a test split form a gallery."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shan_model.metrics import Ranks, Recalls, random_recalls


@dataclass(frozen=True)
class Protocol:
    """A test split of `photos` photos, cut in order into `folds` galleries; metrics are means over the galleries."""

    photos: int
    folds: int


PROTOCOLS = {
    "f30k-1k": Protocol(photos=1000, folds=1),
    "coco-1k-5fold": Protocol(photos=5000, folds=5),
    "coco-5k": Protocol(photos=5000, folds=1),
}


@dataclass(frozen=True)
class Fold:
    """One gallery: consecutive photos of a split and the captions that describe them."""

    photos: slice
    """Rows of the split."""
    captions: NDArray[np.int64]
    """Indices of the split's captions."""
    photo_of_caption: NDArray[np.int64]
    """Row of the photo of each of these captions, counted within the fold."""


def cut_folds(protocol: str | None, photo_count: int, photo_of_caption: NDArray[np.integer]) -> list[Fold]:
    """Returns the galleries of a split under a protocol; None means one gallery of the full split.

    Raises ValueError for an unknown protocol and for a split whose size differs from the protocol's.
    """
    if protocol is None:
        wanted = Protocol(photos=photo_count, folds=1)
    elif protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{protocol}'; choose one of: {', '.join(PROTOCOLS)}")
    else:
        wanted = PROTOCOLS[protocol]
    if photo_count != wanted.photos:
        raise ValueError(
            f"protocol {protocol} is defined on a test split of {wanted.photos:,} photos but this split has "
            f"{photo_count:,}; evaluate the standard test split or choose another protocol"
        )
    height = wanted.photos // wanted.folds
    folds = []
    for top in range(0, height * wanted.folds, height):
        captions = np.flatnonzero((photo_of_caption >= top) & (photo_of_caption < top + height))
        folds.append(Fold(slice(top, top + height), captions, photo_of_caption[captions].astype(np.int64) - top))
    return folds


def mean_recalls(folds: list[Ranks]) -> Recalls:
    """Returns the mean of every recall over the folds."""
    return Recalls(*np.mean([list(vars(ranks.recalls()).values()) for ranks in folds], axis=0).tolist())


def mean_random_recalls(folds: list[Fold]) -> Recalls:
    """Returns the random baseline of the same galleries, averaged over the folds."""
    return Recalls(*np.mean([list(vars(random_recalls(f.photo_of_caption)).values()) for f in folds], axis=0).tolist())


def mean_medians(folds: list[Ranks]) -> dict[str, float]:
    """Returns the mean of the median ranks over the folds, by name."""
    medians = [ranks.medians() for ranks in folds]
    return {name: float(np.mean([fold[name] for fold in medians])) for name in medians[0]}
