"""Data of a training: local shards of both splits, or a stream of the train split."""

import time

from infra.log import event
from pipelines.features.feature_set import FeatureSet
from pipelines.features.split import Split
from pipelines.training.batches import Batches, ShuffledBatches
from pipelines.training.config import TrainConfig
from pipelines.training.shard_cache import CacheConfig, local_shards
from pipelines.training.streamed_batches import StreamedBatches
from pipelines.training.word_dropout import WordDropoutBatches


def batches_of(train: Split, config: TrainConfig) -> Batches:
    """Returns the batches of the train split for `train.data_mode`, without some words if the config asks for it."""
    batches = _complete_batches(train, config)
    return WordDropoutBatches(batches, config.word_dropout, config.seed) if config.word_dropout else batches


def _complete_batches(train: Split, config: TrainConfig) -> Batches:
    if config.data_mode == "stream":
        return StreamedBatches(train, config.batch_size, config.seed, config.allow_same_photo, config.num_workers)
    return ShuffledBatches(train, config.batch_size, config.seed, config.allow_same_photo)


def local_splits(features: FeatureSet, config: TrainConfig, cache: CacheConfig) -> tuple[Split, Split]:
    """Returns the captioned photos of `train` and `val` with their shards on this node; a streamed `train` stays in its
    store.

    Raises UserError as `local_shards`.
    """
    train, val = features.split("train").captioned(), features.split("val").captioned()
    streams = config.data_mode == "stream"
    stored = val.photos.shards if streams else train.photos.shards + val.photos.shards
    total, start, done = sum(shard.size for shard in stored), time.monotonic(), 0

    def show(size: int) -> None:
        nonlocal done
        done += size
        seconds = time.monotonic() - start
        if seconds > 10:  # only a download takes that long
            text = f"shards on this node: {done / 1e9:.1f} of {total / 1e9:.1f} GB in {seconds:.0f} s"
            event("shards_downloaded", text, done_bytes=done, total_bytes=total)

    shards = local_shards(features.store, stored, cache, show)
    return train if streams else train.on_node(shards), val.on_node(shards)
