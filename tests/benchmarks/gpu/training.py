"""Training in bf16: time, memory and fraction of the peak of a step, and whether data loading keeps up with it."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from pipelines.training import flop
from pipelines.training.batches import Batch, ShuffledBatches
from pipelines.training.checkpoint import TrainState
from pipelines.training.config import TrainConfig
from pipelines.training.prefetch import prefetch
from pipelines.training.shard_cache import CacheConfig, local_shards
from pipelines.training.step import objective_of, take_step
from shan_model.objective import RankingObjective
from tests.benchmarks.gpu.card import (
    against_peak,
    memory_gib,
    peak_memory_gib,
    reset_peak_memory,
    synchronize,
    timed,
)
from tests.benchmarks.gpu.sizes import GpuSizes
from tests.benchmarks.inputs import feature_set, network, sentences
from tests.benchmarks.report import Benchmark, Measurement

STEPS_PER_EPOCH = 1000
"""Steps of an epoch for the learning rate's schedule, which requires it; the timed steps belong to no epoch."""


def benchmarks(sizes: GpuSizes, device: str) -> list[Benchmark]:
    """The benchmarks of this file."""
    steps = [
        Benchmark(f"training step, batch {size}", lambda size=size: step(sizes, device, size))
        for size in sizes.batch_sizes
    ]
    first = sizes.batch_sizes[0]
    return [
        *steps,
        Benchmark("training step, all pairs", lambda: step(sizes, device, first, hardest=False)),
        Benchmark("data loading", lambda: data_loading(sizes, device)),
    ]


def step(sizes: GpuSizes, device: str, size: int, hardest: bool = True) -> Iterator[Measurement]:
    """A step as training takes it: features are copied to the card, hardest negatives mined, weights updated."""
    config = TrainConfig(batch_size=size, precision="bf16", num_workers=1, hard_negative_warmup_epochs=int(not hardest))
    state, objective = start(sizes, config, device)
    batch = random_batch(sizes, size)
    reset_peak_memory(device)
    (spent,) = timed(
        lambda: take_step(state, objective, [batch], config, STEPS_PER_EPOCH), device=device, rounds=3 * sizes.rounds
    )
    memory = peak_memory_gib(device)
    what = f"training step, batch {size}, bf16" + ("" if hardest else ", mean of violations")
    yield Measurement(what, 1000 * spent, "ms")
    yield Measurement(f"{what}: peak memory", memory, "GiB", "memory of the card", memory_gib(device), "lower")
    if hardest:
        words = [len(state.shan.text_encoder.tokens(caption)) for caption in batch.captions]
        operations = flop.training_step(state.shan.config, sizes.regions, words)
        yield from against_peak(what, 1 / spent, "steps", operations, device, torch.bfloat16)


def data_loading(sizes: GpuSizes, device: str) -> Iterator[Measurement]:
    """The time that steps wait for batches from memory-mapped shards, as in training with `train.data_mode=cache`."""
    size, count = sizes.batch_size, sizes.loading_steps
    config = TrainConfig(batch_size=size, precision="bf16", num_workers=1, hard_negative_warmup_epochs=0)
    state, objective = start(sizes, config, device)
    with TemporaryDirectory() as folder:
        features = feature_set(Path(folder), {"train": sizes.stored_photos}, 100, sizes)
        split = features.split("train")
        split = split.on_node(local_shards(features.store, split.photos.shards, CacheConfig(), lambda _: None))
        batches = ShuffledBatches(split, size, 0)

        def epochs() -> Iterator[Batch]:
            epoch = 0
            while True:
                yield from batches.batches(epoch, 0, 0, 1)
                epoch += 1

        loading_s = _seconds_to_take(islice(prefetch(epochs()), count))
        ahead = prefetch(epochs())
        for _ in range(3):  # compiles
            take_step(state, objective, [next(ahead)], config, STEPS_PER_EPOCH)
        synchronize(device)
        start_s, waited_s = time.perf_counter(), 0.0
        for _ in range(count):
            asked = time.perf_counter()
            batch = next(ahead)
            waited_s += time.perf_counter() - asked
            take_step(state, objective, [batch], config, STEPS_PER_EPOCH)
        synchronize(device)
        spent_s = time.perf_counter() - start_s
        ahead.close()
    yield Measurement(f"data-loading time fraction, batch {size}", 100 * waited_s / spent_s, "%")
    peer = "training steps without waiting"
    yield Measurement(f"data loading, batch {size}", count / loading_s, "batches/s", peer, count / (spent_s - waited_s))


def start(sizes: GpuSizes, config: TrainConfig, device: str) -> tuple[TrainState, RankingObjective]:
    """A training at its beginning, and its objective."""
    shan = network(sizes)
    return TrainState(shan, config, torch.device(device)), objective_of(shan, config)


def random_batch(sizes: GpuSizes, size: int) -> Batch:
    """A batch of random features, each photo with one caption."""
    shape = (size, sizes.regions, sizes.feature_dim)
    regions = np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(np.float16)
    return Batch(sentences(size, sizes.words), np.arange(size), regions)


def _seconds_to_take(items: Iterator[object]) -> float:
    start_s = time.perf_counter()
    for _ in items:
        pass
    return time.perf_counter() - start_s
