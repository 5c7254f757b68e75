"""Word dropout: how many words are left out, what stays, and that a draw depends on its sample alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from pipelines.training.batches import Batch
from pipelines.training.word_dropout import WordDropoutBatches
from shan_model.vocabulary import tokenize

SIZE, BATCHES = 12, 5
CAPTION = "On a sunny day, two brown dogs and 3.5 cats run across the café's field"


@dataclass(frozen=True)
class GivenBatches:
    """The same batches in every epoch. Captions have 0, 5, 10 or 15 words."""

    batches_per_epoch: int = BATCHES

    def batches(self, epoch: int, first: int, rank: int, world: int) -> Iterator[Batch]:
        for number in range(first, BATCHES):
            photos = np.arange(number * SIZE, (number + 1) * SIZE)[rank::world]
            regions_BRF = np.repeat(photos[:, None, None], 3, axis=1).astype(np.float16)
            yield Batch([" ".join(CAPTION.split()[: 5 * (photo % 4)]) for photo in photos], photos, regions_BRF)


def captions_of(
    dropout: float = 0.3, *, seed: int = 3, epoch: int = 0, first: int = 0, world: int = 1
) -> dict[int, str]:
    """Returns the caption of each photo, from the batches of all ranks."""
    batches = WordDropoutBatches(GivenBatches(), dropout, seed)
    assert batches.batches_per_epoch == BATCHES
    found = dict[int, str]()
    for rank in range(world):
        complete = GivenBatches().batches(epoch, first, rank, world)
        for batch, before in zip(batches.batches(epoch, first, rank, world), complete, strict=True):
            np.testing.assert_array_equal(batch.regions, before.regions)
            found |= dict(zip(batch.photos.tolist(), batch.captions, strict=True))
    return found


COMPLETE = captions_of(0)


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_words_are_left_out_with_their_probability(dropout: float):
    total = lost = 0
    for epoch in range(20):
        for photo, caption in captions_of(dropout, epoch=epoch).items():
            kept, words = tokenize(caption), tokenize(COMPLETE[photo])
            remaining = iter(words)
            assert all(word in remaining for word in kept)  # in their order
            if len(words) > 4:  # shorter ones would often lose all words
                total, lost = total + len(words), lost + len(words) - len(kept)
    assert lost / total == pytest.approx(dropout, abs=0.02)


def test_a_caption_keeps_a_word():
    found = captions_of(0.99)
    for photo, caption in found.items():
        assert bool(tokenize(caption)) == bool(tokenize(COMPLETE[photo]))
    assert {len(tokenize(caption)) for caption in found.values()} >= {0, 1}


def test_captions_do_not_depend_on_resumption_or_workers():
    found = captions_of()
    for first in (1, BATCHES - 1):
        assert captions_of(first=first) == {photo: text for photo, text in found.items() if photo >= first * SIZE}
    assert captions_of(world=2) == captions_of(world=3) == found


def test_captions_differ_between_epochs_and_seeds():
    found = captions_of()
    for others in (captions_of(epoch=1), captions_of(seed=4)):
        with_words = [photo for photo in found if COMPLETE[photo]]
        assert sum(found[photo] == others[photo] for photo in with_words) < len(with_words) / 4


def test_the_same_photo_differs_between_batches():
    batch = next(GivenBatches().batches(0, 0, 0, 1))

    @dataclass(frozen=True)
    class Repeated(GivenBatches):
        def batches(self, epoch: int, first: int, rank: int, world: int) -> Iterator[Batch]:
            yield from [batch] * BATCHES

    found = [one.captions for one in WordDropoutBatches(Repeated(), 0.3, 3).batches(0, 0, 0, 1)]
    assert len({tuple(captions) for captions in found}) == BATCHES
