"""Learning rate and loss by step."""

import pytest

from pipelines.training.config import TrainConfig
from pipelines.training.schedule import learning_rate, uses_hardest_negatives


def rates(steps: list[int], **fields) -> list[float]:
    return [learning_rate(TrainConfig(**fields), 1e-3, step, 10) for step in steps]


def test_step_schedule_decays_once():
    assert rates([0, 149, 150, 299]) == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


def test_cosine_schedule_decays_to_zero():
    found = rates([0, 50, 99, 100], lr_schedule="cosine", epochs=10)
    assert found == pytest.approx([1e-3, 5e-4, 2.467e-7, 0], rel=1e-3, abs=1e-12)


def test_constant_schedule_does_not_decay():
    assert rates([0, 299], lr_schedule="constant") == pytest.approx([1e-3, 1e-3])


def test_warmup_rises_linearly():
    assert rates([0, 1, 3, 4, 150], warmup_steps=4) == pytest.approx([2.5e-4, 5e-4, 1e-3, 1e-3, 1e-4])
    assert rates([3, 4, 52], warmup_steps=4, lr_schedule="cosine", epochs=10) == pytest.approx([1e-3, 1e-3, 5e-4])


def test_hardest_negatives_follow_their_warmup():
    config = TrainConfig(hard_negative_warmup_epochs=2)
    assert [uses_hardest_negatives(config, step, 10) for step in (0, 19, 20)] == [False, False, True]
