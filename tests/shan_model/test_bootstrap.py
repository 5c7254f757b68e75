"""Bootstrap of recalls, against an oracle that copies every drawn photo and against statistical theory."""

import numpy as np
import pytest

from shan_model.bootstrap import draw_counts, interval, lower_bound, resample_recalls
from shan_model.metrics import Ranks


def random_ranks(photos: int, seed: int) -> tuple[Ranks, np.ndarray]:
    """Returns random ranks of photos with one to seven captions each, in random order."""
    draw = np.random.default_rng(seed)
    owners = draw.permutation(np.repeat(np.arange(photos), draw.integers(1, 8, photos)))
    return Ranks(draw.integers(15, size=photos), draw.integers(15, size=len(owners))), owners


def recalls_by_copying(ranks: Ranks, owners: np.ndarray, counts: np.ndarray) -> list[float]:
    """Computes the recalls of one resample query by query."""
    photos = [n for n, count in enumerate(counts) for _ in range(count)]
    captions = [c for n in photos for c in range(len(owners)) if owners[c] == n]
    recalls = []
    for queries, rank in ((photos, ranks.image_to_text_N), (captions, ranks.text_to_image_C)):
        recalls += [100 * sum(int(rank[q] < k) for q in queries) / len(queries) for k in (1, 5, 10)]
    return recalls


def test_a_resample_has_the_recalls_of_the_drawn_photos():
    galleries = [random_ranks(13, 0), random_ranks(9, 1)]
    drawn = resample_recalls([r for r, _ in galleries], [o for _, o in galleries], resamples=50, seed=3)
    folds = []
    for number, (ranks, owners) in enumerate(galleries):
        counts_SN = draw_counts(np.random.default_rng([3, number]), 50, len(ranks.image_to_text_N))
        folds.append([recalls_by_copying(ranks, owners, counts) for counts in counts_SN])
    np.testing.assert_allclose(drawn, np.mean(folds, axis=0), rtol=0, atol=1e-9)


def test_photos_are_drawn_uniformly_with_replacement():
    counts_SN = draw_counts(np.random.default_rng(0), 20_000, 6)
    assert set(counts_SN.sum(axis=1)) == {6}
    np.testing.assert_allclose(counts_SN.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(counts_SN.var(axis=0), 6 * (1 / 6) * (5 / 6), atol=0.03)


def test_drawing_in_blocks_gives_the_same_resamples(monkeypatch):
    ranks, owners = random_ranks(20, 0)
    whole = resample_recalls([ranks], [owners], resamples=30)
    monkeypatch.setattr("shan_model.bootstrap._MAX_COUNTS", 140)
    np.testing.assert_array_equal(resample_recalls([ranks], [owners], resamples=30), whole)


def test_the_standard_deviation_is_that_of_a_proportion():
    hits = np.zeros(400, int)
    hits[:300] = 20  # a quarter of the queries is right
    drawn = resample_recalls([Ranks(hits, hits)], [np.arange(400)])
    expected = 100 * np.sqrt(0.25 * 0.75 / 400)
    np.testing.assert_allclose(drawn.std(axis=0), expected, rtol=0.05)
    np.testing.assert_allclose(drawn.mean(axis=0), 25, atol=0.2)
    low, high = interval(drawn[:, 0])
    assert (low, high) == pytest.approx((25 - 1.96 * expected, 25 + 1.96 * expected), abs=0.3)
    assert lower_bound(drawn[:, 0]) == pytest.approx(25 - 1.645 * expected, abs=0.3)


def test_captions_are_resampled_with_their_photo():
    """Five equal captions are one observation; resampling captions would understate the deviation by sqrt(5)."""
    owners = np.repeat(np.arange(200), 5)
    right = np.where(owners < 100, 0, 20)
    drawn = resample_recalls([Ranks(np.zeros(200, int), right)], [owners])
    assert drawn[:, 3].std() == pytest.approx(100 * np.sqrt(0.25 / 200), rel=0.05)


def test_resamples_depend_on_the_seed_and_not_on_the_model():
    ranks, owners = random_ranks(50, 0)
    better = Ranks(np.maximum(ranks.image_to_text_N - 3, 0), ranks.text_to_image_C)
    ours, theirs = (resample_recalls([r], [owners], resamples=500) for r in (better, ranks))
    np.testing.assert_array_equal(ours[:, 3:], theirs[:, 3:])
    assert (ours[:, :3] >= theirs[:, :3]).all()
    assert not np.array_equal(theirs, resample_recalls([ranks], [owners], resamples=500, seed=1))
