"""The promotion criterion: a margin on paired resamples, a limit on losses per direction, and the random baseline."""

import numpy as np
import pytest

from pipelines.evaluation.criterion import decide
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.results import Evaluation
from shan_model.bootstrap import lower_bound
from shan_model.metrics import Ranks
from shan_model.protocols import cut_folds

PHOTOS = 200
(FOLD,) = cut_folds(None, PHOTOS, np.arange(PHOTOS))


def evaluation(image_to_text_hits: int, text_to_image_hits: int, name: str = "challenger") -> Evaluation:
    """Returns an evaluation in which the first queries rank first and the others below ten: R@1 = R@5 = R@10."""
    hits = (image_to_text_hits, text_to_image_hits)
    return Evaluation(
        name, "val", PHOTOS, PHOTOS, [FOLD], [Ranks(*(np.where(np.arange(PHOTOS) < n, 0, 50) for n in hits))]
    )


def test_only_a_significantly_better_challenger_passes():
    champion = evaluation(100, 100, "version 1")
    assert decide(evaluation(120, 120), champion, PromoteConfig()).promote
    for equal_or_worse in (100, 99, 50):
        decision = decide(evaluation(equal_or_worse, equal_or_worse), champion, PromoteConfig())
        assert not decision.promote
        assert "challenger is not better (validation rSum" in decision.reason


def test_a_difference_of_a_few_photos_is_not_significant():
    """Two photos more: e^-2 = 13.5 % of the resamples draw neither, so the 95 % bound is 0 and the 80 % bound above."""
    two_more, champion = evaluation(102, 100), evaluation(100, 100, "version 1")
    assert not decide(two_more, champion, PromoteConfig()).promote
    assert decide(two_more, champion, PromoteConfig(confidence=0.8)).promote


def test_the_margin_applies_to_the_lower_bound():
    challenger, champion = evaluation(130, 130), evaluation(100, 100, "version 1")
    low = lower_bound(challenger.resamples["rsum"] - champion.resamples["rsum"])
    difference = challenger.recalls.rsum - champion.recalls.rsum
    assert low + 5 < difference
    assert decide(challenger, champion, PromoteConfig(margin=low - 0.1)).promote
    assert not decide(challenger, champion, PromoteConfig(margin=low + 0.1)).promote


@pytest.mark.parametrize(("hits", "worse"), [((96, 160), "image-to-text"), ((160, 96), "text-to-image")])
def test_gain_in_one_direction_does_not_offset_a_drop(hits: tuple[int, int], worse: str):
    challenger, champion = evaluation(*hits), evaluation(100, 100, "version 1")
    decision = decide(challenger, champion, PromoteConfig())  # four photos of 200 are 6 points
    assert not decision.promote
    assert f"worse in one direction: {worse} retrieval drops by 6.0 points, max_drop 3 (" in decision.reason
    assert decide(challenger, champion, PromoteConfig(max_drop=6)).promote


def test_a_first_version_below_the_random_baseline_is_rejected():
    assert decide(evaluation(20, 20), None, PromoteConfig()).promote
    decision = decide(evaluation(1, 1), None, PromoteConfig())
    assert not decision.promote
    start = "challenger is not better than the random baseline (validation rSum 3.0, 95 % upper bound "
    assert decision.reason.startswith(start)
    assert decision.reason.endswith("random baseline 16.0)")


def test_a_first_version_on_few_photos_is_not_rejected():
    """Of ten photos one ranks first and three more among five, where the random baseline expects one and five."""
    (fold,) = cut_folds(None, 10, np.arange(10))
    ranks = np.array([0, 3, 3, 3, *[9] * 6])
    few = Evaluation("challenger", "val", 10, 10, [fold], [Ranks(ranks, ranks)])
    assert few.recalls.rsum < few.random_baseline.rsum
    assert decide(few, None, PromoteConfig()).promote
