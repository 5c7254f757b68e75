"""Scores of selected pairs equal those of the score matrix, whatever the batches."""

import numpy as np
import pytest
import torch

from pipelines.models import pair_scores
from pipelines.models.pair_scores import PairScorer
from shan_model.model import SHAN
from shan_model.scoring import score_matrix
from tests.support.registered import CAPTIONS, tiny_network

SENTENCES = [*CAPTIONS, "", "a dog and a dog and two men on a beach", "men", "a blue beach"]


def regions(count: int, ragged: bool) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(3 + (n % 3 if ragged else 0), 8)).astype(np.float16) for n in range(count)]


@pytest.mark.parametrize("matcher", ["shan", "vse++", "scan-t2i", "sgr", "tern"])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("fraction", [0.05, 1.0])
@torch.inference_mode()
def test_pairs_have_the_scores_of_the_matrix(matcher: str, ragged: bool, fraction: float):
    shan, photos = tiny_network(8, matcher=matcher), regions(40, ragged)
    expected = score_matrix(shan, photos if ragged else np.stack(photos), SENTENCES)
    rng = np.random.default_rng(1)
    count = int(fraction * expected.size)
    chosen = np.stack([rng.integers(0, 40, count), rng.integers(0, len(SENTENCES), count)])
    scorer = PairScorer(shan, SENTENCES, 3, None)
    scores = scorer.pairs(scorer.encode(photos), *chosen)
    np.testing.assert_allclose(scores, expected[tuple(chosen)], atol=1e-5)
    np.testing.assert_allclose(scorer.block(scorer.encode(photos)), expected, atol=1e-5)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> tuple[SHAN, list[str]]:
    """Returns a network, and the captions that it encodes."""
    shan, encoded = tiny_network(8), []
    encode = shan.encode_captions
    monkeypatch.setattr(shan, "encode_captions", lambda captions: encoded.extend(captions) or encode(captions))
    return shan, encoded


def score_every_caption(scorer: PairScorer, photos: list[np.ndarray]) -> None:
    with torch.inference_mode():
        for photo in photos:
            every_caption = np.arange(len(SENTENCES))
            scorer.pairs(scorer.encode([photo]), np.zeros(len(SENTENCES), np.int64), every_caption)


@pytest.mark.parametrize("batch_size", [1, 2, len(SENTENCES)])
def test_each_caption_is_encoded_once_for_all_photos(batch_size: int, counted: tuple[SHAN, list[str]]):
    shan, encoded = counted
    score_every_caption(PairScorer(shan, SENTENCES, batch_size, None), regions(5, ragged=False))
    assert sorted(encoded) == sorted(SENTENCES)


def test_kept_words_are_bounded(counted: tuple[SHAN, list[str]], monkeypatch: pytest.MonkeyPatch):
    """The captions have 47 words together, with their start and end tokens, and the longest has 13."""
    monkeypatch.setattr(pair_scores, "KEPT_WORDS", 15)
    shan, encoded = counted
    scorer = PairScorer(shan, SENTENCES, 2, None)
    score_every_caption(scorer, regions(2, ragged=False))
    assert len(SENTENCES) < len(encoded) <= 2 * len(SENTENCES)
    kept = scorer._kept.values()
    assert 0 < sum(len(words_WD) for words_WD in kept) == scorer._kept_words <= 30
    stored = {words_WD.untyped_storage().data_ptr(): words_WD.untyped_storage().nbytes() for words_WD in kept}
    assert sum(stored.values()) == sum(words_WD.nbytes for words_WD in kept)
    encoded.clear()
    scorer.words(list(scorer._kept))
    assert not encoded
