"""Number of batches of an epoch, which follows from the number of captions of each photo.

It is known before photos are extracted. `counts` is an array of the captions of each photo, and `subject` is what an
error names as too small.
"""

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from pipelines.training.config import TrainConfig


def batches_per_epoch(counts: NDArray[np.integer], train: TrainConfig, subject: str) -> int:
    """Returns the number of batches for `train.data_mode`. Raises UserError if not one can be filled."""
    if train.data_mode == "stream":
        return streamed_batches_per_epoch(counts, train.batch_size, train.allow_same_photo, train.num_workers, subject)
    return shuffled_batches_per_epoch(counts, train.batch_size, train.allow_same_photo, subject)


def shuffled_batches_per_epoch(
    counts: NDArray[np.integer], batch_size: int, allow_same_photo: bool, subject: str
) -> int:
    """Returns the largest number of batches that all captions fill. Raises UserError if it is 0.

    A photo with more captions than there are batches contributes one caption to each.
    """
    batches = int(counts.sum()) // batch_size
    while not allow_same_photo and batches and np.minimum(counts, batches).sum() < batches * batch_size:
        batches -= 1
    if not batches:
        photos = f"{len(counts)} photos, and a batch has one caption per photo unless train.allow_same_photo is set"
        raise UserError(
            f"train.batch_size is {batch_size}, but {subject} has only "
            f"{f'{counts.sum()} captions' if allow_same_photo else photos}; lower it"
        )
    return batches


def streamed_batches_per_epoch(
    counts: NDArray[np.integer], batch_size: int, allow_same_photo: bool, num_workers: int, subject: str
) -> int:
    """Returns the number of batches that every rank can fill in any order. Raises UserError if it is 0.

    A rank's part may be short by the captions of one photo, at most `max_per_photo`. While `max_per_photo` times a
    batch is left, the captions belong to enough photos to fill one.
    """
    max_per_photo = int(counts.max())
    filled = int(counts.sum() - max_per_photo * (num_workers + 1)) // batch_size
    batches = filled - (0 if allow_same_photo else max_per_photo)
    if batches < 1:
        raise UserError(
            f"{subject} has {counts.sum()} captions, too few to stream with train.batch_size={batch_size}; use "
            "train.data_mode=cache"
        )
    return batches
