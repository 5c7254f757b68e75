"""Batches of training, against plain reads of the same bytes and against WebDataset's pass over the shards."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from pipelines.features.layout import tar_name
from pipelines.features.npy import load_npy
from pipelines.features.split import Split
from pipelines.training.batches import Batch, Batches, ShuffledBatches
from pipelines.training.prefetch import prefetch
from pipelines.training.shard_cache import CacheConfig, local_shards
from pipelines.training.streamed_batches import StreamedBatches
from tests.benchmarks.inputs import feature_set
from tests.benchmarks.measure import seconds
from tests.benchmarks.report import Benchmark, Measurement
from tests.benchmarks.sizes import Sizes


def benchmarks(sizes: Sizes) -> list[Benchmark]:
    """The benchmarks of this file."""
    return [Benchmark("batches of training", lambda: _rows(sizes))]


def _rows(sizes: Sizes) -> Iterator[Measurement]:
    size = sizes.batch_size
    with TemporaryDirectory() as folder:
        features = feature_set(Path(folder), {"train": sizes.stored_photos}, 100, sizes)
        split = features.split("train")
        split = split.on_node(local_shards(features.store, split.photos.shards, CacheConfig(), lambda _: None))
        cached, streamed = ShuffledBatches(split, size, 0), StreamedBatches(split, size, 0, False, 1)
        plan = cached.order(0)
        plain, ours, prefetched = seconds(
            lambda: _read_plainly(split, plan),
            lambda: _exhaust(_batches(cached)),
            lambda: _exhaust(prefetch(_batches(cached))),
            rounds=sizes.rounds,
        )
        per_batch, peer = 1000 / cached.batches_per_epoch, "plain reads of the same bytes"
        what = f"batch of {size} from memory-mapped shards"
        yield Measurement(what, ours * per_batch, "ms", peer, plain * per_batch, "lower", 0.5)
        yield Measurement(f"{what}, prefetched", prefetched * per_batch, "ms", peer, plain * per_batch, "lower", 0.5)
        peer_pass, stream = seconds(
            lambda: _read_by_webdataset(split), lambda: _exhaust(_batches(streamed)), rounds=sizes.rounds
        )
        yield Measurement("epoch of a streaming dataset", stream, "s", "WebDataset's pass", peer_pass, "lower", 0.5)
        (shuffle,) = seconds(lambda: cached.order(1), rounds=sizes.rounds)
        yield Measurement(
            "shuffle without a photo twice in a batch, per million captions", shuffle * 1e6 / plan.size, "s"
        )


def _batches(batches: Batches) -> Iterator[Batch]:
    return batches.batches(0, 0, 0, 1)


def _exhaust(batches: Iterator[Batch]) -> None:
    for _ in batches:
        pass


def _read_plainly(split: Split, plan: NDArray[np.int64]) -> None:
    """Reads the same photos' members from open files into one array a batch, unparsed: the cost of the copies alone."""
    stored = split.photos
    files = [os.open(Path(split.store.uri, tar_name(shard.name)), os.O_RDONLY) for shard in stored.shards]
    members = [
        (files[shard], offsets[0]) for shard, offsets in zip(stored.shard_of, stored.offsets.tolist(), strict=True)
    ]
    size = members[0][1][1]
    for rows in plan:
        batch = np.empty((len(rows), size), np.uint8)
        for target, row in zip(batch, rows, strict=True):
            file, (offset, _) = members[split.photo_of_caption[row]]
            os.preadv(file, [memoryview(target)], offset)
    for file in files:
        os.close(file)


def _read_by_webdataset(split: Split) -> None:
    """One pass of WebDataset's reader over the shards, arrays decoded."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    tars = (tar_name(shard.name) for shard in split.photos.shards)
    streams = ({"url": tar, "stream": io.BytesIO(split.store.read(tar))} for tar in tars)
    for each in group_by_keys(tar_file_expander(streams)):
        load_npy(each["regions.npy"])
