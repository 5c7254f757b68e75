"""Learning rate and loss as functions of the stored progress, which a resumed training follows exactly."""

import math

from pipelines.training.checkpoint import TrainingProgress
from pipelines.training.config import TrainConfig


def learning_rate(config: TrainConfig, peak: float, step: int, steps_per_epoch: int) -> float:
    """Returns the learning rate of the optimizer step after `step` finished ones, for weights with that peak rate."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.lr_schedule == "cosine":
        total = max(1, config.epochs * steps_per_epoch - config.warmup_steps)
        done = max(0, step - config.warmup_steps) / total
        factor = (1 + math.cos(math.pi * min(1.0, done))) / 2
    else:
        decayed = config.lr_schedule == "step" and step >= config.lr_decay_epoch * steps_per_epoch
        factor = 0.1 if decayed else 1.0
    return peak * warmup * factor


def uses_hardest_negatives(config: TrainConfig, progress: TrainingProgress, steps_per_epoch: int) -> bool:
    """Returns whether the loss of the next step takes only the hardest negatives, and not the mean of all violations.

    A training with a warm-up also takes the mean in an epoch that starts on the plateau of equal scores.
    """
    warmup = config.hard_negative_warmup_epochs
    is_extended = warmup > 0 and progress.is_on_plateau()
    return progress.step // steps_per_epoch >= warmup and not is_extended
