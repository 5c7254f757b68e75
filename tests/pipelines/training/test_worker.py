"""Parts of the training loop. `tests/e2e` and `tests/faults` run it in Ray Train workers."""

import pytest

from pipelines.training.config import TrainConfig
from pipelines.training.worker import steps_per_epoch


@pytest.mark.parametrize(("batches", "accumulated", "steps"), [(7, 1, 7), (7, 3, 2), (2, 3, 1)])
def test_steps_of_an_epoch(batches: int, accumulated: int, steps: int):
    assert steps_per_epoch(batches, TrainConfig(gradient_accumulation_steps=accumulated)) == steps
