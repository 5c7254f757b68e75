"""The protocols by which the field reports retrieval: which photos and captions make a gallery."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shan_model.metrics import Ranks, Recalls, chance_recalls


@dataclass(frozen=True)
class Protocol:
    """A test split of `photos` photos, cut into `folds` galleries in its order; figures are the mean over them."""

    photos: int
    folds: int


PROTOCOLS = {
    "f30k-1k": Protocol(photos=1000, folds=1),
    "coco-1k-5fold": Protocol(photos=5000, folds=5),
    "coco-5k": Protocol(photos=5000, folds=1),
}


@dataclass(frozen=True)
class Fold:
    """One gallery: consecutive photos and the captions that describe them."""

    photos: slice
    captions: NDArray[np.int64]
    photo_of_caption: NDArray[np.int64]
    """Row of each of these captions' photo, counted within the fold."""


def cut_folds(protocol: str | None, photo_count: int, photo_of_caption: NDArray[np.integer]) -> list[Fold]:
    """The galleries of a split under a protocol; None takes the split as it is.

    Raises ValueError for a protocol that is not known and for a split of another size than the protocol's.
    """
    if protocol is None:
        wanted = Protocol(photos=photo_count, folds=1)
    elif protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{protocol}'; choose one of: {', '.join(PROTOCOLS)}")
    else:
        wanted = PROTOCOLS[protocol]
    if photo_count != wanted.photos:
        raise ValueError(
            f"{protocol} is defined on a test split of {wanted.photos:,} photos; this one has {photo_count:,}"
        )
    height = wanted.photos // wanted.folds
    folds = []
    for top in range(0, height * wanted.folds, height):
        captions = np.flatnonzero((photo_of_caption >= top) & (photo_of_caption < top + height))
        folds.append(Fold(slice(top, top + height), captions, photo_of_caption[captions].astype(np.int64) - top))
    return folds


def mean_recalls(folds: list[Ranks]) -> Recalls:
    """Mean of every recall over the folds."""
    return Recalls(*np.mean([list(vars(ranks.recalls()).values()) for ranks in folds], axis=0).tolist())


def mean_chance(folds: list[Fold]) -> Recalls:
    """What random rankings of the same galleries would reach, on average."""
    return Recalls(*np.mean([list(vars(chance_recalls(f.photo_of_caption)).values()) for f in folds], axis=0).tolist())


def mean_medians(folds: list[Ranks]) -> dict[str, float]:
    """Mean of the median ranks over the folds."""
    every = [ranks.medians() for ranks in folds]
    return {name: float(np.mean([medians[name] for medians in every])) for name in every[0]}
