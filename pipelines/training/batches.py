"""Training batches: exact shuffles of the captions of a split, independent of the number of workers and resumable."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.features.split import Split
from pipelines.training.epoch_size import shuffled_batches_per_epoch

MISSING = -1
"""In the order of an epoch while it is made: no caption yet."""


@dataclass(frozen=True)
class Batch:
    """Per-rank batch: n captions with their photos."""

    captions: list[str]
    photos: NDArray[np.int64]
    """Row of each caption's photo in the split, of shape n."""
    regions: NDArray[np.float16] | Sequence[NDArray[np.float16]]
    """Features of those photos, n x R x F, or n arrays R_i x F if photos differ in their number of regions."""


class Batches(Protocol):
    """Source of training batches."""

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of an epoch."""

    def batches(self, epoch: int, first: int, rank: int, world: int) -> Iterator[Batch]:
        """Yields this rank's part of an epoch's batches, from batch `first` on."""


@dataclass(frozen=True)
class ShuffledBatches:
    """Captions of a split in an order that depends on seed and epoch alone. Captions that fill no batch are left out.

    A batch has no two captions of one photo, unless `allow_same_photo`.
    """

    split: Split
    batch_size: int
    seed: int
    allow_same_photo: bool = False

    @cached_property
    def batches_per_epoch(self) -> int:
        """Number of batches of an epoch. Raises UserError if the captions fill none."""
        counts, subject = (
            np.bincount(self.split.photo_of_caption),
            f"split '{self.split.name}' of {self.split.store.uri}",
        )
        return shuffled_batches_per_epoch(counts, self.batch_size, self.allow_same_photo, subject)

    def batches(self, epoch: int, first: int, rank: int, world: int) -> Iterator[Batch]:
        """Yields this rank's part of an epoch's batches, from batch `first` on."""
        for rows in self.order(epoch)[first:, rank::world]:
            photos = self.split.photo_of_caption[rows]
            yield Batch([self.split.captions[i] for i in rows], photos, self.split[photos])

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Returns rows of captions, batches x batch size."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.split.captions))
        if self.allow_same_photo:
            return order[: self.batches_per_epoch * self.batch_size].reshape(-1, self.batch_size)
        batches, left = _fill_in_order(order, self.split.photo_of_caption, self.batches_per_epoch, self.batch_size)
        _fill_short(batches, left, self.split.photo_of_caption)
        return batches


def _fill_in_order(
    order: NDArray[np.int64], photo_of: NDArray[np.int64], count: int, size: int
) -> tuple[NDArray[np.int64], list[int]]:
    """Returns rows, count x size, filled in order, and the remaining rows. A row that is missing is MISSING.

    A caption whose photo is in the batch is deferred to the next one. The last batches may be short, if all remaining
    captions are of photos that they have.
    """
    batches = np.full((count, size), MISSING)
    rest, waiting = _in_chunks(order), deque[int]()
    for batch in batches:
        rows: list[int] = []
        taken: set[int] = set()
        deferred = []
        while len(rows) < size and (row := waiting.popleft() if waiting else next(rest, MISSING)) != MISSING:
            photo = int(photo_of[row])
            if photo in taken:
                deferred.append(row)
            else:
                taken.add(photo)
                rows.append(row)
        batch[: len(rows)] = rows
        waiting.extendleft(reversed(deferred))
    return batches, [*waiting, *rest]


def _in_chunks(order: NDArray[np.int64]) -> Iterator[int]:
    """Yields the values. They exist as Python objects a chunk at a time."""
    for start in range(0, len(order), 10_000):
        yield from order[start : start + 10_000].tolist()


def _fill_short(batches: NDArray[np.int64], left: list[int], photo_of: NDArray[np.int64]) -> None:
    """Fills short batches by swapping a leftover caption into a full batch and moving a caption of another photo out.

    Such a pair exists: a full batch without the leftover caption's photo has more photos than the short one, hence one
    that the short one lacks. If every full batch had every leftover photo, `count` would exceed `batches_per_epoch`.
    """
    for number in np.flatnonzero(batches[:, -1] == MISSING):
        short = [row for row in batches[number].tolist() if row != MISSING]
        while len(short) < batches.shape[1]:
            row, full = next(
                (row, batch)
                for row in left
                for batch in batches
                if batch[-1] != MISSING and photo_of[row] not in photo_of[batch]
            )
            given = next(other for other in full.tolist() if photo_of[other] not in photo_of[short])
            short.append(given)
            full[:] = [*(other for other in full.tolist() if other != given), row]
            left.remove(row)
        batches[number] = short
