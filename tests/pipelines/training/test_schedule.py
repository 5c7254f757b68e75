"""Learning rate and loss by step."""

import pytest

from pipelines.training.checkpoint import ON_PLATEAU, TrainingProgress
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


def uses(config: TrainConfig, step: int, *plateaus: float) -> bool:
    """Returns whether a step of 10 per epoch takes hardest negatives, after validations with these metrics."""
    validations = [(10 * n, 0, {"val_rsum": 1.0, ON_PLATEAU: found, "epoch": n}) for n, found in enumerate(plateaus, 1)]
    return uses_hardest_negatives(config, TrainingProgress(step, history=[*validations, (step, 0, {"loss": 1.0})]), 10)


def test_hardest_negatives_follow_their_warmup():
    config = TrainConfig(hard_negative_warmup_epochs=2)
    assert [uses(config, step) for step in (0, 19, 20)] == [False, False, True]


def test_warmup_continues_on_the_plateau():
    config = TrainConfig(hard_negative_warmup_epochs=1)
    assert [uses(config, step, 1.0) for step in (10, 19)] == [False, False]
    assert uses(config, 20, 1.0, 0.0)
    assert not uses(config, 30, 0.0, 0.0, 1.0)  # hardest negatives led back to it
    assert uses(TrainConfig(hard_negative_warmup_epochs=0), 10, 1.0)  # no warm-up, as in the paper


def test_progress_of_earlier_releases_is_off_the_plateau():
    progress = TrainingProgress(10, history=[(10, 0, {"val_rsum": 1.0, "epoch": 1})])
    assert uses_hardest_negatives(TrainConfig(hard_negative_warmup_epochs=1), progress, 10)
