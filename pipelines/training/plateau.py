"""The plateau of equal scores, where a training starts and where hardest negatives can keep it.

If all pairs have the same score, the loss of a batch of B captions is 2 x B x margin, with hardest negatives and with
the mean of all violations. Shapes: N photos, C captions.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.training.config import TrainConfig
from shan_model.metrics import random_recalls, retrieval_recalls

GAP = 0.1
"""Difference of scores, in margins, below which a model can be on the plateau."""


def on_plateau(scores_NC: NDArray[np.floating], photo_of_caption: NDArray[np.int64], margin: float) -> bool:
    """Returns whether matched pairs of a split score like the others on average, and the ranking is near a random one.

    Where the mean scores of matched and unmatched pairs are close, a model may rank well and be on its way through the
    loss of the plateau, so that rSum must be below twice that of a random ranking.
    """
    captions = len(photo_of_caption)
    matched = float(scores_NC[photo_of_caption, np.arange(captions)].mean(dtype=np.float64))
    unmatched = (float(scores_NC.sum(dtype=np.float64)) - captions * matched) / max(1, scores_NC.size - captions)
    if matched - unmatched >= GAP * margin:
        return False
    return retrieval_recalls(scores_NC, photo_of_caption).rsum < 2 * random_recalls(photo_of_caption).rsum


def plateau_warning(epoch: int, config: TrainConfig) -> str:
    """Returns the warning after an epoch, counted from 1, that ended on the plateau."""
    found = f"after epoch {epoch} matched pairs of val score like the others, and rankings are near random"
    lasts = "; if that lasts," if epoch < config.epochs else ";"
    if not config.hard_negative_warmup_epochs:
        return f"{found}{lasts} start another training with train.hard_negative_warmup_epochs=1"
    if epoch < config.epochs:
        return f"{found}; epoch {epoch + 1} trains on the mean of all violations"
    return f"{found}; start another training with more train.epochs, or another train.learning_rate"
