"""Recalls against sorted lists, and the random baseline against random rankings."""

import numpy as np
import pytest

from shan_model.metrics import CUTS, Recalls, random_recalls, retrieval_ranks, retrieval_recalls

FEW = [0, 1, 2]
FIVE_EACH = [n for n in range(6) for _ in range(5)]
UNEVEN = [2, 0, 0, 3, 1, 2, 2, 2, 11, 5, 4, 6, 6, 7, 8, 9, 10, 0, 0, 0, 0, 0, 0, 0, 0]
GALLERIES = pytest.mark.parametrize("photo_of_caption", [FEW, FIVE_EACH, UNEVEN, [0], [0, 0, 0]])


def rank_of_first_match(ranking, correct):
    return next(rank for rank, item in enumerate(ranking) if item in correct)


def recalls_by_sorting(scores, photo_of_caption):
    """Ranks by sorting the gallery of each query; of two equal scores the wrong item comes first."""
    photos, captions = range(len(scores)), range(len(photo_of_caption))
    text, image = [], []
    for n in photos:
        ranking = sorted(captions, key=lambda c: (-scores[n][c], photo_of_caption[c] == n))
        text.append(rank_of_first_match(ranking, {c for c in captions if photo_of_caption[c] == n}))
    for c in captions:
        ranking = sorted(photos, key=lambda n: (-scores[n][c], photo_of_caption[c] == n))
        image.append(rank_of_first_match(ranking, {photo_of_caption[c]}))
    return [100 * sum(place < k for place in places) / len(places) for places in (text, image) for k in (1, 5, 10)]


def values(recalls):
    return [
        *(recalls.image_to_text_r1, recalls.image_to_text_r5, recalls.image_to_text_r10),
        *(recalls.text_to_image_r1, recalls.text_to_image_r5, recalls.text_to_image_r10),
    ]


@GALLERIES
@pytest.mark.parametrize("levels", [None, 2, 5, 1])
def test_recalls_equal_those_of_sorted_lists(photo_of_caption, levels):
    """`levels` is the number of different scores; few levels give many ties."""
    draw = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        scores = draw.standard_normal((max(photo_of_caption) + 1, len(photo_of_caption))).astype(dtype)
        if levels:
            scores = draw.integers(levels, size=scores.shape).astype(dtype)
        recalls = retrieval_recalls(scores, np.array(photo_of_caption))
        assert values(recalls) == pytest.approx(recalls_by_sorting(scores.tolist(), photo_of_caption), abs=1e-9)


def test_a_perfect_and_an_inverted_ranking():
    mine = np.arange(12)[:, None] == np.repeat(np.arange(12), 5)[None, :]
    owners = np.repeat(np.arange(12), 5)
    assert retrieval_recalls(mine.astype(np.float32), owners) == Recalls(*[100.0] * 6)
    assert retrieval_recalls(1 - mine.astype(np.float32), owners) == Recalls(*[0.0] * 6)


def test_equal_scores_give_no_recall():
    owners = np.repeat(np.arange(20), 5)
    assert retrieval_recalls(np.zeros((20, 100)), owners).rsum == 0


def test_rsum_adds_the_six_recalls_by_name():
    recalls = Recalls(1, 2, 3, 4, 5, 6)
    assert recalls.rsum == 21
    assert recalls.as_metrics() == {
        "image_to_text_r1": 1,
        "image_to_text_r5": 2,
        "image_to_text_r10": 3,
        "text_to_image_r1": 4,
        "text_to_image_r5": 5,
        "text_to_image_r10": 6,
        "rsum": 21,
    }


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_an_error(bad):
    scores = np.zeros((3, 3), np.float32)
    scores[1, 2] = bad
    with pytest.raises(ValueError, match="1 of 9 scores are not finite"):
        retrieval_recalls(scores, np.arange(3))


@pytest.mark.parametrize("photo_of_caption", [[0, 0, 1], [0, 1, 3]])
def test_photos_and_captions_without_a_pair_are_an_error(photo_of_caption):
    with pytest.raises(ValueError, match="every photo needs a caption"):
        retrieval_recalls(np.zeros((3, 3)), np.array(photo_of_caption))


@pytest.mark.parametrize("shape", [(3, 4), (3, 2), (3,)])
def test_a_matrix_of_another_shape_is_an_error(shape):
    with pytest.raises(ValueError, match="but there are 3 captions"):
        retrieval_recalls(np.zeros(shape), np.arange(3))


def test_a_matrix_that_would_broadcast_is_an_error():
    with pytest.raises(ValueError, match="but there are 1 captions"):
        retrieval_recalls(np.zeros((1, 5)), np.array([0]))


@GALLERIES
def test_the_random_baseline_is_the_mean_of_random_rankings(photo_of_caption):
    draw = np.random.default_rng(0)
    owner, photos, trials = np.array(photo_of_caption), max(photo_of_caption) + 1, 2000
    found = np.zeros(6)
    for _ in range(trials):
        text = [np.flatnonzero(owner[draw.permutation(len(owner))] == n)[0] for n in range(photos)]
        image = [draw.integers(photos) for _ in owner]
        found += [100 * np.mean([place < k for place in places]) for places in (text, image) for k in CUTS]
    assert values(random_recalls(owner)) == pytest.approx(found / trials, abs=1.0)


def test_the_random_baseline_of_flickr30k():
    """1,000 photos with five captions: a little below 0.5 and 1 %, since two captions can be in one list."""
    baseline = random_recalls(np.repeat(np.arange(1000), 5))
    assert values(baseline) == pytest.approx([0.1, 0.4990, 0.9955, 0.1, 0.5, 1.0], abs=2e-3)


@GALLERIES
def test_median_ranks_count_from_one(photo_of_caption):
    scores = np.random.default_rng(1).standard_normal((max(photo_of_caption) + 1, len(photo_of_caption)))
    photos, captions = range(len(scores)), range(len(photo_of_caption))
    text = [
        1
        + rank_of_first_match(
            sorted(captions, key=lambda c, n=n: -scores[n][c]), {c for c in captions if photo_of_caption[c] == n}
        )
        for n in photos
    ]
    image = [
        1 + rank_of_first_match(sorted(photos, key=lambda n, c=c: -scores[n][c]), {photo_of_caption[c]})
        for c in captions
    ]
    medians = retrieval_ranks(scores, np.array(photo_of_caption)).medians()
    assert medians == {"image_to_text_median_rank": np.median(text), "text_to_image_median_rank": np.median(image)}


def test_the_matrix_may_be_a_memory_map(tmp_path):
    draw = np.random.default_rng(0)
    np.save(tmp_path / "scores.npy", draw.standard_normal((37, 120)).astype(np.float16))
    owners = np.concatenate([np.arange(37), draw.integers(37, size=83)])
    on_disk = np.load(tmp_path / "scores.npy", mmap_mode="r")
    at_once = retrieval_ranks(np.load(tmp_path / "scores.npy"), owners, block_rows=1000)
    for rows in (1, 5, 37):
        blocks = retrieval_ranks(on_disk, owners, block_rows=rows)
        np.testing.assert_array_equal(blocks.image_to_text_N, at_once.image_to_text_N)
        np.testing.assert_array_equal(blocks.text_to_image_C, at_once.text_to_image_C)
    assert at_once.recalls() == retrieval_recalls(on_disk, owners)
