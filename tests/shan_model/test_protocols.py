"""Protocols of the field: five 1K folds are five galleries of their own, and a split of another size is refused."""

import numpy as np
import pytest

from shan_model.metrics import Ranks, retrieval_ranks, retrieval_recalls
from shan_model.protocols import PROTOCOLS, cut_folds, mean_medians, mean_random_recalls, mean_recalls

FIVE_EACH = np.repeat(np.arange(5000), 5)


def test_five_folds_are_five_galleries_of_a_thousand_photos_in_the_splits_order():
    folds = cut_folds("coco-1k-5fold", 5000, FIVE_EACH)
    assert [(fold.photos.start, fold.photos.stop) for fold in folds] == [(n, n + 1000) for n in range(0, 5000, 1000)]
    for number, fold in enumerate(folds):
        np.testing.assert_array_equal(fold.captions, np.arange(5000) + 5000 * number)
        np.testing.assert_array_equal(fold.photo_of_caption, np.repeat(np.arange(1000), 5))


def test_captions_in_any_order_and_number_find_their_fold():
    owners = np.random.default_rng(0).permutation(np.concatenate([np.arange(5000), np.arange(10)]))
    folds = cut_folds("coco-1k-5fold", 5000, owners)
    assert sorted(np.concatenate([fold.captions for fold in folds])) == list(range(5010))
    for fold in folds:
        np.testing.assert_array_equal(owners[fold.captions] - fold.photos.start, fold.photo_of_caption)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_refuses_a_split_of_another_size(protocol):
    with pytest.raises(
        ValueError, match=rf"protocol {protocol} is defined on a test split of [15],000 photos but this split has 999"
    ):
        cut_folds(protocol, 999, np.arange(999))


def test_refuses_an_unknown_protocol():
    with pytest.raises(ValueError, match="unknown protocol 'coco'; choose one of: f30k-1k, coco-1k-5fold, coco-5k"):
        cut_folds("coco", 5000, FIVE_EACH)


def test_figures_are_the_mean_over_the_folds():
    folds = cut_folds("coco-1k-5fold", 5000, np.arange(5000))
    right = Ranks(np.zeros(1000, int), np.zeros(1000, int))
    wrong = Ranks(np.full(1000, 20), np.full(1000, 2))
    assert mean_recalls([right, wrong, wrong, wrong]).as_metrics() == {
        "image_to_text_r1": 25,
        "image_to_text_r5": 25,
        "image_to_text_r10": 25,
        "text_to_image_r1": 25,
        "text_to_image_r5": 100,
        "text_to_image_r10": 100,
        "rsum": 300,
    }
    assert mean_medians([right, wrong]) == {"image_to_text_median_rank": 11, "text_to_image_median_rank": 2}
    assert mean_random_recalls(folds).text_to_image_r1 == pytest.approx(0.1)


def test_the_matrix_is_read_in_strips_and_may_lie_on_disk(tmp_path):
    draw = np.random.default_rng(0)
    np.save(tmp_path / "scores.npy", draw.standard_normal((37, 120)).astype(np.float16))
    owners = np.concatenate([np.arange(37), draw.integers(37, size=83)])
    on_disk = np.load(tmp_path / "scores.npy", mmap_mode="r")
    whole = retrieval_ranks(np.load(tmp_path / "scores.npy"), owners, block_rows=1000)
    for rows in (1, 5, 37):
        strips = retrieval_ranks(on_disk, owners, block_rows=rows)
        np.testing.assert_array_equal(strips.image_to_text_N, whole.image_to_text_N)
        np.testing.assert_array_equal(strips.text_to_image_C, whole.text_to_image_C)
    assert whole.recalls() == retrieval_recalls(on_disk, owners)
