"""Batches of a feature set larger than a node's disk: shards pass by once an epoch, through webdataset's tar reader.

An epoch's shards are shuffled and cut into one part a worker; a worker draws each batch from a window of the captions
that its part holds next. All of it is drawn from receipts and manifest before anything is read, so the number of
batches is the same in every epoch and on every rank, and a resumed epoch does not open the shards it has done with.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from pipelines.features.feature_set import Split, stacked
from pipelines.features.shards import MEMBERS, Receipt, load_npy, read_shard, tar_name
from pipelines.training.batches import Batch
from pipelines.training.prefetch import read_ahead

WINDOW = 4000
"""Captions among which a worker draws; the regions of their photos, some 120 MB for 800 of 36 x 2048, are in memory."""


@dataclass(frozen=True)
class StreamedBatches:
    """The captions of a split in an order that depends on seed, epoch and number of workers.

    Every epoch has `steps_per_epoch` batches, on any number of workers up to `num_workers`; the captions that fill none
    (about a batch for each caption that a photo has) are others in each epoch. Raises UserError if none is filled.
    """

    split: Split
    batch_size: int
    seed: int
    allow_same_photo: bool
    num_workers: int

    @cached_property
    def steps_per_epoch(self) -> int:
        """Batches that every rank can fill whatever the order.

        A part may lack a photo's captions, `most`; and while `most` times the captions of a batch wait, they are of
        enough photos to fill it.
        """
        counts = np.bincount(self.split.photo_of_caption)
        most = int(counts.max())
        steps = int(counts.sum() - most * (self.num_workers + 1)) // self.batch_size - (
            0 if self.allow_same_photo else most
        )
        if steps < 1:
            raise UserError(
                f"split '{self.split.name}' of {self.split.store.uri} has {counts.sum()} captions, too few to stream "
                f"in batches of {self.batch_size}; use train.data_mode=cache"
            )
        return steps

    def batches(self, epoch: int, first: int, rank: int, world: int) -> Iterator[Batch]:
        """This rank's shares of an epoch's batches, from batch `first` on. Reads each shard once, in order."""
        photos, plan = self._plan(epoch, rank, world)
        left = np.zeros(len(self.split), dtype=np.int64)  # captions of each photo that are still to come
        for rows in plan[first:]:
            np.add.at(left, self.split.photo_of_caption[rows], 1)
        passing = self._regions(photos[left[photos] > 0])
        here: dict[int, NDArray[np.float16]] = {}
        for rows in plan[first:]:
            needed = self.split.photo_of_caption[rows]
            while any(photo not in here for photo in needed):
                photo, regions_RF = next(passing)
                here[photo] = regions_RF
            regions = [here[photo] for photo in needed]
            yield Batch([self.split.captions[i] for i in rows], needed, stacked(regions))
            np.subtract.at(left, needed, 1)
            for photo in needed:
                if left[photo] == 0:
                    here.pop(photo, None)

    def _plan(self, epoch: int, rank: int, world: int) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
        """This rank's photos in the order in which they pass, and the rows of captions of each of its batches."""
        photos = self._part(epoch, rank, world)
        size = len(range(rank, self.batch_size, world))
        rng = np.random.default_rng([self.seed, epoch, world, rank])
        starts = np.searchsorted(self.split.photo_of_caption, np.arange(len(self.split) + 1))
        coming = (row for photo in photos for row in range(starts[photo], starts[photo + 1]))
        held = max(WINDOW, size * int(np.diff(starts).max()))
        window: list[int] = []
        plan = []
        for _ in range(self.steps_per_epoch):
            window.extend(islice(coming, held - len(window)))
            plan.append(self._draw(window, size, rng))
        return photos, plan

    def _draw(self, window: list[int], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Takes a batch out of the window."""
        drawn: list[int] = []
        taken: set[int] = set()
        again = []
        while len(drawn) < size:
            at = int(rng.integers(len(window)))
            window[at], window[-1] = window[-1], window[at]
            row = window.pop()
            photo = int(self.split.photo_of_caption[row])
            if photo in taken and not self.allow_same_photo:
                again.append(row)
                continue
            taken.add(photo)
            drawn.append(row)
        window.extend(again)
        return np.array(drawn)

    def _part(self, epoch: int, rank: int, world: int) -> NDArray[np.int64]:
        """Rows of this rank's photos, in the epoch's order of shards; its part of the captions is that of a batch."""
        edges = np.cumsum([0, *(len(receipt.written) for receipt in self.split.receipts)])
        shards = np.random.default_rng([self.seed, epoch]).permutation(len(self.split.receipts))
        photos = np.concatenate([np.arange(edges[shard], edges[shard + 1]) for shard in shards])
        counts = np.bincount(self.split.photo_of_caption)[photos]
        before = np.cumsum(counts) - counts
        rank_of_slot = np.sort(np.arange(self.batch_size) % world)
        return photos[rank_of_slot[before * self.batch_size // counts.sum()] == rank]

    def _regions(self, photos: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """Row and regions of these photos, in this order; the next shard is on its way while one is used."""
        from webdataset.tariterators import group_by_keys, tar_file_expander

        wanted = dict(zip((self.split.keys[photo] for photo in photos), photos.tolist(), strict=True))
        shards = list(dict.fromkeys(self._shard_of[photo] for photo in photos))
        streams = read_ahead((self._stream(self.split.receipts[shard]) for shard in shards), 1)
        members = tar_file_expander(streams, select_files=lambda name: name.endswith(MEMBERS[0]))
        for sample in group_by_keys(members):
            if sample["__key__"] in wanted:
                yield wanted[sample["__key__"]], load_npy(sample[MEMBERS[0]])

    @cached_property
    def _shard_of(self) -> list[int]:
        return [number for number, receipt in enumerate(self.split.receipts) for _ in receipt.written]

    def _stream(self, receipt: Receipt) -> dict[str, Any]:
        """A shard as webdataset takes it, read whole: our store goes on after cut connections."""
        name = tar_name(receipt.shard)
        data = read_shard(self.split.store, name, receipt.sha256)
        return {"url": f"{self.split.store.uri}/{name}", "stream": io.BytesIO(data)}
