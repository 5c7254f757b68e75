"""Batches for training: exact shuffles of a split's captions, the same on any number of workers, from any step on."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from pipelines.features.feature_set import Split


@dataclass(frozen=True)
class Batch:
    """One worker's share of a batch: n captions with their photos."""

    captions: list[str]
    photos: NDArray[np.int64]
    """n: the row of each caption's photo in the split."""
    regions: NDArray[np.float16] | Sequence[NDArray[np.float16]]
    """n x R x F: features of those photos; n arrays R_i x F where photos differ in regions."""


class Batches(Protocol):
    """What training asks of its data."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""

    def batches(self, epoch: int, first: int, rank: int, world: int) -> Iterator[Batch]:
        """This rank's shares of an epoch's batches, from batch `first` on."""


@dataclass(frozen=True)
class ShuffledBatches:
    """The captions of a split in an order that depends on seed and epoch alone; what fills no batch waits an epoch.

    A batch holds no two captions of one photo unless `allow_same_photo`. Raises UserError if no batch can be filled.
    """

    split: Split
    batch_size: int
    seed: int
    allow_same_photo: bool = False

    @cached_property
    def steps_per_epoch(self) -> int:
        """Most batches that the captions fill: of a photo with more captions than there are batches, some must wait."""
        counts = np.bincount(self.split.photo_of_caption)
        steps = int(counts.sum()) // self.batch_size
        while not self.allow_same_photo and steps and np.minimum(counts, steps).sum() < steps * self.batch_size:
            steps -= 1
        if not steps:
            held = f"{len(counts)} photos, and a batch holds no two captions of one (train.allow_same_photo allows it)"
            raise UserError(
                f"train.batch_size is {self.batch_size}, but split '{self.split.name}' of {self.split.store.uri} has "
                f"only {f'{counts.sum()} captions' if self.allow_same_photo else held}; lower it"
            )
        return steps

    def batches(self, epoch: int, first: int, rank: int, world: int) -> Iterator[Batch]:
        """This rank's shares of an epoch's batches, from batch `first` on."""
        for rows in self.order(epoch)[first:, rank::world]:
            photos = self.split.photo_of_caption[rows]
            yield Batch([self.split.captions[i] for i in rows], photos, self.split[photos])

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Rows of captions, one line a batch: steps x batch size."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.split.captions))
        if self.allow_same_photo:
            return order[: self.steps_per_epoch * self.batch_size].reshape(-1, self.batch_size)
        batches, waiting = _dealt(order.tolist(), self.split.photo_of_caption.tolist(), *self._shape)
        _filled(batches, waiting, self.split.photo_of_caption.tolist(), self.batch_size)
        return np.array([list(batch.values()) for batch in batches])

    @property
    def _shape(self) -> tuple[int, int]:
        return self.steps_per_epoch, self.batch_size


def _dealt(rows: list[int], photo_of: list[int], steps: int, size: int) -> tuple[list[dict[int, int]], deque[int]]:
    """Batches by photo, filled in order, and what is left; a caption whose photo a batch has waits for the next one.

    The last batches may lack some, where all that is left is of photos that they have.
    """
    waiting, batches = deque(rows), []
    for _ in range(steps):
        batch: dict[int, int] = {}
        later = []
        while waiting and len(batch) < size:
            row = waiting.popleft()
            if photo_of[row] in batch:
                later.append(row)
            else:
                batch[photo_of[row]] = row
        waiting.extendleft(reversed(later))
        batches.append(batch)
    return batches, waiting


def _filled(batches: list[dict[int, int]], waiting: deque[int], photo_of: list[int], size: int) -> None:
    """Fills the short batches by exchange: a waiting caption goes to a full batch, which gives one of another photo.

    There is such a pair: a full batch without the waiting caption's photo has more photos than the short one, so one
    that the short one has not; and if no batch lacked any waiting photo, there were too few captions from the start.
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
