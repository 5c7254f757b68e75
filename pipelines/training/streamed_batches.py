"""Batches of a streaming dataset, for feature sets larger than a node's disk: each shard is read once per epoch.

The shards of an epoch are shuffled and divided among the workers. A worker samples each batch from a window of the next
captions of its part. The samples are planned from receipts and manifest before any shard is read, so every epoch and
rank has the same number of batches, and a resumed epoch does not read shards that it has finished.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.layout import tar_name
from pipelines.features.npy import is_finite, load_npy
from pipelines.features.receipt import MEMBERS
from pipelines.features.shard_reader import read_published_shard
from pipelines.features.split import Split, not_finite, stacked
from pipelines.training.batches import Batch
from pipelines.training.epoch_size import streamed_batches_per_epoch
from pipelines.training.prefetch import prefetch

WINDOW = 4000
"""Captions in the window. The features of their photos are in memory: 120 MB for 800 photos of 36 x 2048."""


@dataclass(frozen=True)
class StreamedBatches:
    """Captions of a split in an order that depends on seed, epoch and number of workers.

    Every epoch has `batches_per_epoch` batches, with any number of workers up to `num_workers`. The captions that fill
    no batch (about one batch per caption of a photo) differ between epochs.
    """

    split: Split
    batch_size: int
    seed: int
    allow_same_photo: bool
    num_workers: int

    @cached_property
    def batches_per_epoch(self) -> int:
        """Number of batches of an epoch, the same on every rank. Raises UserError if it is 0."""
        counts, subject = (
            np.bincount(self.split.photo_of_caption),
            f"split '{self.split.name}' of {self.split.store.uri}",
        )
        return streamed_batches_per_epoch(counts, self.batch_size, self.allow_same_photo, self.num_workers, subject)

    def batches(self, epoch: int, first: int, rank: int, world: int) -> Iterator[Batch]:
        """Yields this rank's part of an epoch's batches, from batch `first` on. Reads each shard once, in order."""
        photos, plan = self._plan(epoch, rank, world)
        left = np.zeros(len(self.split), dtype=np.int64)  # remaining captions of each photo
        for rows in plan[first:]:
            np.add.at(left, self.split.photo_of_caption[rows], 1)
        stream = self._regions(photos[left[photos] > 0])
        loaded: dict[int, NDArray[np.float16]] = {}
        for rows in plan[first:]:
            needed = self.split.photo_of_caption[rows]
            while any(photo not in loaded for photo in needed):
                photo, regions_RF = next(stream)
                loaded[photo] = regions_RF
            regions = [loaded[photo] for photo in needed]
            yield Batch([self.split.captions[i] for i in rows], needed, stacked(regions))
            np.subtract.at(left, needed, 1)
            for photo in needed:
                if left[photo] == 0:
                    loaded.pop(photo, None)

    def _plan(self, epoch: int, rank: int, world: int) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
        """Returns this rank's photos in reading order, and the rows of captions of each of its batches."""
        photos = self._part(epoch, rank, world)
        size = len(range(rank, self.batch_size, world))
        rng = np.random.default_rng([self.seed, epoch, world, rank])
        starts = np.searchsorted(self.split.photo_of_caption, np.arange(len(self.split) + 1))
        upcoming = (row for photo in photos for row in range(starts[photo], starts[photo + 1]))
        capacity = max(WINDOW, size * int(np.diff(starts).max()))
        window: list[int] = []
        plan = []
        for _ in range(self.batches_per_epoch):
            window.extend(islice(upcoming, capacity - len(window)))
            plan.append(self._draw(window, size, rng))
        return photos, plan

    def _draw(self, window: list[int], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Removes a batch from the window and returns its rows."""
        drawn: list[int] = []
        taken: set[int] = set()
        deferred = []
        while len(drawn) < size:
            at = int(rng.integers(len(window)))
            window[at], window[-1] = window[-1], window[at]
            row = window.pop()
            photo = int(self.split.photo_of_caption[row])
            if photo in taken and not self.allow_same_photo:
                deferred.append(row)
                continue
            taken.add(photo)
            drawn.append(row)
        window.extend(deferred)
        return np.array(drawn)

    def _part(self, epoch: int, rank: int, world: int) -> NDArray[np.int64]:
        """Returns the rows of this rank's photos, in the epoch's order of shards."""
        stored = self.split.photos
        edges = np.searchsorted(stored.shard_of, np.arange(len(stored.shards) + 1))
        shards = np.random.default_rng([self.seed, epoch]).permutation(len(stored.shards))
        photos = np.concatenate([np.arange(edges[shard], edges[shard + 1]) for shard in shards])
        counts = np.bincount(self.split.photo_of_caption)[photos]
        before = np.cumsum(counts) - counts
        rank_of_slot = np.sort(np.arange(self.batch_size) % world)
        return photos[rank_of_slot[before * self.batch_size // counts.sum()] == rank]

    def _regions(self, photos: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """Yields row and regions of these photos, in this order. The next shard is prefetched.

        Raises UserError for features that are not finite.
        """
        from webdataset.tariterators import group_by_keys, tar_file_expander

        shard_of = self.split.photos.shard_of[photos]
        parts = np.split(photos, np.flatnonzero(np.diff(shard_of)) + 1) if len(photos) else []
        streams = prefetch((self._stream(part) for part in parts), 1)
        for part, stream in zip(parts, streams, strict=True):
            wanted = dict(zip((self.split.keys[photo] for photo in part), part.tolist(), strict=True))
            members = tar_file_expander([stream], select_files=lambda name: name.endswith(MEMBERS[0]))
            for sample in group_by_keys(members):
                if (key := sample["__key__"]) in wanted:
                    regions_RF = load_npy(sample[MEMBERS[0]])
                    if not is_finite(regions_RF):
                        raise not_finite(sample["__url__"], key)
                    yield wanted[key], regions_RF

    def _stream(self, photos: NDArray[np.int64]) -> dict[str, Any]:
        """Returns the shard of photos in WebDataset's form. It is read at once: the store retries lost connections."""
        stored = self.split.photos
        shard = stored.shards[stored.shard_of[photos[0]]]
        name = tar_name(shard.name)
        data = read_published_shard(self.split.store, name, shard.sha256)
        return {"url": f"{self.split.store.uri}/{name}", "stream": io.BytesIO(data)}
