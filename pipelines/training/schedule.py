"""Learning rate and loss as functions of the step alone, so that they are right wherever a run begins."""

import math

from pipelines.training.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Of the step that follows `step` finished ones."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.lr_schedule == "cosine":
        total = max(1, config.epochs * steps_per_epoch - config.warmup_steps)
        done = max(0, step - config.warmup_steps) / total
        factor = (1 + math.cos(math.pi * min(1.0, done))) / 2
    else:
        factor = 0.1 if config.lr_schedule == "step" and step >= config.lr_decay_epoch * steps_per_epoch else 1.0
    return config.learning_rate * warm * factor


def takes_hardest(config: TrainConfig, step: int, steps_per_epoch: int) -> bool:
    """Whether that step's loss is of the hardest negatives, or of the mean of all violations."""
    return step >= config.hard_negative_warmup_epochs * steps_per_epoch
