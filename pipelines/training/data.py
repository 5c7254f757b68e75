"""Where a training's data comes from: both splits as files of the node, or the train split as a stream."""

import time

from pipelines.features.feature_set import FeatureSet, Split
from pipelines.training.batches import Batches, ShuffledBatches
from pipelines.training.config import TrainConfig
from pipelines.training.shard_cache import CacheConfig, local_shards
from pipelines.training.streamed_batches import StreamedBatches


def batches_of(train: Split, config: TrainConfig) -> Batches:
    """The batches that `train.data_mode` asks for."""
    if config.data_mode == "stream":
        return StreamedBatches(train, config.batch_size, config.seed, config.allow_same_photo, config.num_workers)
    return ShuffledBatches(train, config.batch_size, config.seed, config.allow_same_photo)


def splits_on_node(features: FeatureSet, config: TrainConfig, cache: CacheConfig) -> tuple[Split, Split]:
    """`train` and `val`; their shards are on this node, but for a `train` that is streamed."""
    train, val = features.split("train"), features.split("val")
    receipts = val.receipts if config.data_mode == "stream" else train.receipts + val.receipts
    total, began, done = sum(receipt.size for receipt in receipts), time.monotonic(), 0

    def show(size: int) -> None:
        nonlocal done
        done += size
        seconds = time.monotonic() - began
        if seconds > 10:  # from a bucket, and not here already
            print(f"shards on this node: {done / 1e9:.1f} of {total / 1e9:.1f} GB in {seconds:.0f} s", flush=True)

    shards = local_shards(features.store, receipts, cache, show)
    return train if config.data_mode == "stream" else train.on_node(shards), val.on_node(shards)
