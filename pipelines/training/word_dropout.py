"""Word dropout: training batches whose captions lack some of their words, chosen at random.

What a caption lacks depends on the seed, the epoch, the batch and the photo, and not on the number of workers or on the
step from which a training resumes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from pipelines.training.batches import Batch, Batches
from shan_model.vocabulary import tokenize


@dataclass(frozen=True)
class WordDropoutBatches:
    """Batches in which each word of a caption is left out with a probability; a caption keeps at least one."""

    complete: Batches
    dropout: float
    seed: int

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of an epoch. Raises UserError if the captions fill none."""
        return self.complete.batches_per_epoch

    def batches(self, epoch: int, first: int, rank: int, world: int) -> Iterator[Batch]:
        """Yields this rank's part of an epoch's batches, from batch `first` on."""
        for number, batch in enumerate(self.complete.batches(epoch, first, rank, world), first):
            captions = [
                _without_words(caption, self.dropout, np.random.default_rng((self.seed, epoch, number, 1, photo)))
                for caption, photo in zip(batch.captions, batch.photos.tolist(), strict=True)
            ]
            yield replace(batch, captions=captions)


def _without_words(caption: str, dropout: float, rng: np.random.Generator) -> str:
    """Returns the caption, or those words of it that are kept."""
    words = tokenize(caption)
    kept = rng.random(len(words)) >= dropout
    if words and not kept.any():
        kept[rng.integers(len(words))] = True
    return caption if kept.all() else " ".join(compress(words, kept))
