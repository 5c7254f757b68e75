"""The message of a training that diverges."""

import math

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.training.config import TrainConfig
from pipelines.training.divergence import divergence, require_finite_scores


def test_message_names_step_batches_and_fix():
    assert str(divergence(16, 10, math.inf, math.nan, 1, TrainConfig())) == (
        "the training diverged at step 17 (epoch 2, batch 7): the loss is inf and the norm of the gradient nan; start "
        "another training with a lower train.learning_rate or more train.warmup_steps"
    )
    said = str(divergence(16, 10, 1.5, math.inf, 3, TrainConfig(precision="bf16")))
    assert "step 17 (epoch 2, batches 19 to 21): the loss is 1.5 and the norm of the gradient inf" in said
    assert said.endswith("more train.warmup_steps, or train.precision=fp32")


def test_validation_scores_that_are_not_finite_end_the_training():
    """Weights of the last step of an epoch can be finite, and too large to score with."""
    scores_NC = np.zeros((2, 3), np.float32)
    require_finite_scores(scores_NC, 1, TrainConfig())
    scores_NC[1] = np.nan, np.inf, 0
    with pytest.raises(UserError, match="after epoch 4, 2 of 6 validation scores are NaN or infinite; start another"):
        require_finite_scores(scores_NC, 4, TrainConfig())
