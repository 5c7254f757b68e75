"""Training's batches at the paper's sizes, against reading the same bytes and against webdataset's own pass."""

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from infra.storage.open import open_store
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.extraction.shard_plan import group_photos
from pipelines.features.feature_set import FeatureSet, Split, write_index, write_manifest
from pipelines.features.shards import commit_shard, load_npy, tar_name
from pipelines.training.batches import Batches, ShuffledBatches
from pipelines.training.prefetch import read_ahead
from pipelines.training.shard_cache import CacheConfig, local_shards
from pipelines.training.streamed_batches import StreamedBatches
from tests.benchmarks.inputs import FEATURES, REGIONS
from tests.benchmarks.measure import Row, seconds
from tests.support.feature_sets import DETECTOR, sample

PHOTOS, CAPTIONS, BATCH, SHARD = 1500, 5, 128, 100


def rows() -> Iterator[Row]:
    """Every figure of this file."""
    with TemporaryDirectory() as folder:
        features = _features(Path(folder))
        split = features.split("train")
        split = split.on_node(local_shards(features.store, split.receipts, CacheConfig(), lambda _: None))
        cached, streamed = ShuffledBatches(split, BATCH, 0), StreamedBatches(split, BATCH, 0, False, 1)
        plan = cached.order(0)
        plain, ours, ahead = seconds(
            lambda: _plain(split, plan), lambda: _all(cached), lambda: [0 for _ in read_ahead(_of(cached))]
        )
        yield Row("batch of 128 from mapped shards", 1000 * ours / cached.steps_per_epoch, "ms")
        yield Row("batches from mapped shards, share of plain reads of the same bytes", plain / ours, "", 0.5)
        yield Row("the same, read ahead in a thread", plain / ahead, "", 0.5)
        whole, stream = seconds(lambda: _webdataset(split), lambda: _all(streamed))
        yield Row("epoch streamed in batches, share of webdataset's pass over the shards", whole / stream, "", 0.5)
        planned = seconds(lambda: cached.order(1))[0]
        yield Row("shuffle without a photo twice, of a million captions", planned * 1e6 / plan.size, "s")


def _features(folder: Path) -> FeatureSet:
    """1,500 photos of 36 x 2048 with five captions each: 0.2 GB."""
    photos = [
        Photo(f"p{i}", f"p{i}.png", "train", tuple(f"caption {i} {j}" for j in range(CAPTIONS))) for i in range(PHOTOS)
    ]
    manifest, store = Manifest.build("bench", str(folder), photos), open_store(str(folder / "set"))
    write_manifest(store, manifest)
    regions = np.random.default_rng(0).normal(size=(REGIONS, FEATURES)).astype(np.float16)
    receipts = [
        commit_shard(store, group.shard(), [replace(sample(p), regions_RF=regions) for p in group.photos], [])
        for group in group_photos(manifest, SHARD, [])
    ]
    return write_index(store, manifest, "bench-0", {**DETECTOR, "feature_dim": FEATURES}, receipts)


def _of(batches: Batches) -> Iterator[object]:
    return batches.batches(0, 0, 0, 1)


def _all(batches: Batches) -> None:
    for _ in _of(batches):
        pass


def _plain(split: Split, plan: "np.ndarray[tuple[int, int], np.dtype[np.int64]]") -> None:
    """The same photos' members from open files, into one array a batch, unparsed: what the copies alone cost."""
    files = {r.shard: os.open(Path(split.store.uri, tar_name(r.shard)), os.O_RDONLY) for r in split.receipts}
    places = [(files[r.shard], photo.offsets[0]) for r in split.receipts for photo in r.written]
    size = places[0][1][1]
    for line in plan:
        batch = np.empty((len(line), size), np.uint8)
        for place, row in zip(batch, line, strict=True):
            file, (offset, _) = places[split.photo_of_caption[row]]
            os.preadv(file, [memoryview(place)], offset)
    for file in files.values():
        os.close(file)


def _webdataset(split: Split) -> None:
    """One pass of webdataset's reader over the shards, arrays decoded."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    streams = ({"url": r.shard, "stream": io.BytesIO(split.store.read(tar_name(r.shard)))} for r in split.receipts)
    for each in group_by_keys(tar_file_expander(streams)):
        load_npy(each["regions.npy"])
