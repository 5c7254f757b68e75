"""Batches of an epoch from the captions of each photo; test_batches and test_streamed_batches fill them."""

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.training.config import TrainConfig
from pipelines.training.epoch_size import batches_per_epoch


@pytest.mark.parametrize(
    ("counts", "settings", "batches"),
    [
        ([5] * 64, {"batch_size": 64}, 5),
        ([5] * 63, {"batch_size": 63}, 5),
        ([50, 1, 1, 1], {"batch_size": 4}, 1),
        ([50, 1, 1, 1], {"batch_size": 4, "allow_same_photo": True}, 13),
        ([5] * 100, {"batch_size": 10, "data_mode": "stream"}, 43),
    ],
)
def test_batches(counts: list[int], settings: dict, batches: int):
    assert batches_per_epoch(np.array(counts), TrainConfig(**settings), "x") == batches


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {},
            "train.batch_size is 64, but split 'train' of d has only 63 photos, and a batch has one caption per photo",
        ),
        ({"allow_same_photo": True, "batch_size": 400}, "train.batch_size is 400, .* has only 315 captions; lower it"),
        ({"data_mode": "stream"}, "split 'train' of d has 315 captions, too few to stream with train.batch_size=64"),
    ],
)
def test_too_few_captions_are_an_error(settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        batches_per_epoch(np.full(63, 5), TrainConfig(**{"batch_size": 64, **settings}), "split 'train' of d")
