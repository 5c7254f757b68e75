"""The error of a training whose loss, gradient or validation scores are not finite: where, and the fix."""

import numpy as np
from numpy.typing import NDArray

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
    return UserError(
        f"the training diverged at {_where(step, steps_per_epoch, batches)}: the loss is {loss:.4g} and the norm of "
        f"the gradient {norm:.4g}; {_fix(config)}"
    )


def require_finite_scores(scores_NC: NDArray[np.floating], epoch: int, config: TrainConfig) -> None:
    """Raises UserError if a validation score after `epoch`, counted from 1, is not finite.

    Weights that are finite but huge give such scores, where the last step of an epoch made them so.
    """
    if count := int((~np.isfinite(scores_NC)).sum()):
        raise UserError(
            f"the training diverged: after epoch {epoch}, {count} of {scores_NC.size} validation scores are NaN or "
            f"infinite; {_fix(config)}"
        )


def _fix(config: TrainConfig) -> str:
    precision = ", or train.precision=fp32" if config.precision == "bf16" else ""
    return f"start another training with a lower train.learning_rate or more train.warmup_steps{precision}"


def _where(step: int, steps_per_epoch: int, batches: int) -> str:
    epoch, done = divmod(step, steps_per_epoch)
    numbers = f"batch {done + 1}" if batches == 1 else f"batches {done * batches + 1} to {(done + 1) * batches}"
    return f"step {step + 1} (epoch {epoch + 1}, {numbers})"
