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
        batches, waiting = _fill_in_order(order.tolist(), self.split.photo_of_caption.tolist(), *self._shape)
        _fill_short(batches, waiting, self.split.photo_of_caption.tolist(), self.batch_size)
        return np.array([list(batch.values()) for batch in batches])

    @property
    def _shape(self) -> tuple[int, int]:
        return self.batches_per_epoch, self.batch_size


def _fill_in_order(
    rows: list[int], photo_of: list[int], count: int, size: int
) -> tuple[list[dict[int, int]], deque[int]]:
    """Returns batches as row by photo, filled in order, and the remaining rows.

    A caption whose photo is in the batch is deferred to the next one. The last batches may be short, if all remaining
    captions are of photos that they have.
    """
    waiting, batches = deque(rows), []
    for _ in range(count):
        batch: dict[int, int] = {}
        deferred = []
        while waiting and len(batch) < size:
            row = waiting.popleft()
            if photo_of[row] in batch:
                deferred.append(row)
            else:
                batch[photo_of[row]] = row
        waiting.extendleft(reversed(deferred))
        batches.append(batch)
    return batches, waiting


def _fill_short(batches: list[dict[int, int]], waiting: deque[int], photo_of: list[int], size: int) -> None:
    """Fills short batches by swapping a leftover caption into a full batch and moving a caption of another photo out.

    Such a pair exists: a full batch without the waiting caption's photo has more photos than the short one, hence one
    that the short one lacks. If every full batch had every waiting photo, `count` would exceed `batches_per_epoch`.
    """
    for short in batches:
        while len(short) < size:
            row, full = next(
                (row, batch)
                for row in waiting
                for batch in batches
                if len(batch) == size and photo_of[row] not in batch
            )
            given = next(photo for photo in full if photo not in short)
            short[given] = full.pop(given)
            full[photo_of[row]] = row
            waiting.remove(row)
