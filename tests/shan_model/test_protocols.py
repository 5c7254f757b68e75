"""Evaluation protocols: five 1K folds are separate galleries, and a split of another size is an error."""

import numpy as np
import pytest

from shan_model.metrics import Ranks
from shan_model.protocols import PROTOCOLS, cut_folds, mean_medians, mean_random_recalls, mean_recalls

FIVE_EACH = np.repeat(np.arange(5000), 5)


def test_five_folds_are_galleries_of_a_thousand_photos_in_order():
    folds = cut_folds("coco-1k-5fold", 5000, FIVE_EACH)
    assert [(fold.photos.start, fold.photos.stop) for fold in folds] == [(n, n + 1000) for n in range(0, 5000, 1000)]
    for number, fold in enumerate(folds):
        np.testing.assert_array_equal(fold.captions, np.arange(5000) + 5000 * number)
        np.testing.assert_array_equal(fold.photo_of_caption, np.repeat(np.arange(1000), 5))


def test_captions_belong_to_the_fold_of_their_photo():
    owners = np.random.default_rng(0).permutation(np.concatenate([np.arange(5000), np.arange(10)]))
    folds = cut_folds("coco-1k-5fold", 5000, owners)
    assert sorted(np.concatenate([fold.captions for fold in folds])) == list(range(5010))
    for fold in folds:
        np.testing.assert_array_equal(owners[fold.captions] - fold.photos.start, fold.photo_of_caption)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_split_of_another_size_is_an_error(protocol):
    with pytest.raises(
        ValueError, match=rf"protocol {protocol} is defined on a test split of [15],000 photos but this split has 999"
    ):
        cut_folds(protocol, 999, np.arange(999))


def test_an_unknown_protocol_is_an_error():
    with pytest.raises(ValueError, match="unknown protocol 'coco'; choose one of: f30k-1k, coco-1k-5fold, coco-5k"):
        cut_folds("coco", 5000, FIVE_EACH)


def test_metrics_are_means_over_the_folds():
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
