"""Batches: exact shuffles, equal on every rank, and a function of seed and epoch alone."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jobs.config import TrainConfig
from jobs.train_worker import epoch_batches, learning_rate, steps_per_epoch


def split(captions: int) -> Any:
    return SimpleNamespace(photo_of_caption=np.arange(captions) // 5)


def batches(captions: int, config: TrainConfig, epoch: int, world: int) -> list[list[list[int]]]:
    """Per rank, per step, the caption indices."""
    return [[b.tolist() for b in epoch_batches(split(captions), config, epoch, rank, world)] for rank in range(world)]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_every_batch_equally_and_no_caption_comes_twice(world: int):
    config = TrainConfig(batch_size=64, workers=world)
    ranks = batches(1000, config, epoch=3, world=world)
    assert {len(rank) for rank in ranks} == {15}
    assert {len(batch) for rank in ranks for batch in rank} == {64 // world}
    seen = [index for rank in ranks for batch in rank for index in batch]
    assert len(seen) == len(set(seen)) == 960


def test_the_batches_are_the_same_on_any_number_of_workers():
    config = TrainConfig(batch_size=64)
    one, two = (batches(1000, config, epoch=1, world=world) for world in (1, 2))
    for step, batch in enumerate(one[0]):
        assert sorted(batch) == sorted(two[0][step] + two[1][step])


def test_every_epoch_has_its_own_order_and_repeats_it():
    config = TrainConfig(batch_size=64)
    assert batches(1000, config, 0, 1) == batches(1000, config, 0, 1)
    assert batches(1000, config, 0, 1) != batches(1000, config, 1, 1)
    assert batches(1000, config, 0, 1) != batches(1000, TrainConfig(batch_size=64, seed=1), 0, 1)


def test_a_data_set_smaller_than_a_batch_still_trains():
    config = TrainConfig(batch_size=64)
    ranks = batches(25, config, 0, 2)
    assert [len(batch) for rank in ranks for batch in rank] == [12, 12]
    assert steps_per_epoch(25, config) == 1


def test_the_learning_rate_depends_on_the_epoch_alone():
    config = TrainConfig(learning_rate=1e-3, decay_after=15)
    assert [learning_rate(config, epoch) for epoch in (0, 14, 15, 29)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
