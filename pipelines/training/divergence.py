"""The error of a training whose loss or gradient is not finite: step, batches and fix."""

import numpy as np

from infra.errors import UserError
from pipelines.training.config import TrainConfig
from shan_model.gather import gather_objects


def divergence(
    step: int, steps_per_epoch: int, loss: float, norm: float, batches: int, config: TrainConfig
) -> UserError:
    """Returns the error of the step after `step` finished ones, which took that many batches.

    Every rank calls this with its loss and the norm of the gradient, and gets the same error. `Split` refuses features
    that are not finite, so the weights are the cause.
    """
    of_ranks = gather_objects((loss, norm))
    loss, norm = next((loss, norm) for loss, norm in of_ranks if not np.isfinite(loss + norm))
    precision = ", or train.precision=fp32" if config.precision == "bf16" else ""
    return UserError(
        f"the training diverged at {_where(step, steps_per_epoch, batches)}: the loss is {loss:.4g} and the norm of "
        f"the gradient {norm:.4g}; start another training with a lower train.learning_rate or more "
        f"train.warmup_steps{precision}"
    )


def _where(step: int, steps_per_epoch: int, batches: int) -> str:
    epoch, done = divmod(step, steps_per_epoch)
    numbers = f"batch {done + 1}" if batches == 1 else f"batches {done * batches + 1} to {(done + 1) * batches}"
    return f"step {step + 1} (epoch {epoch + 1}, {numbers})"
