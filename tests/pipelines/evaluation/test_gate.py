"""The gate: better by a margin on paired resamples, no side sacrificed, and the first one better than chance."""

import numpy as np
import pytest

from pipelines.evaluation.gate import judge
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.results import Evaluation
from shan_model.bootstrap import lower_bound
from shan_model.metrics import Ranks
from shan_model.protocols import cut_folds

PHOTOS = 200
(FOLD,) = cut_folds(None, PHOTOS, np.arange(PHOTOS))


def evaluation(text_hits: int, image_hits: int, name: str = "candidate") -> Evaluation:
    """The first photos are found at once, the others not among ten: sums of 3 x the share of hits."""
    text, image = (np.where(np.arange(PHOTOS) < hits, 0, 50) for hits in (text_hits, image_hits))
    return Evaluation(name, "val", PHOTOS, PHOTOS, [FOLD], [Ranks(text, image)])


def test_what_is_surely_better_passes_and_what_is_the_same_or_worse_does_not():
    champion = evaluation(100, 100, "version 1")
    assert judge(evaluation(120, 120), champion, PromoteConfig()).passed
    for same_or_worse in (100, 99, 50):
        verdict = judge(evaluation(same_or_worse, same_or_worse), champion, PromoteConfig())
        assert not verdict.passed
        assert "candidate is not better (validation rSum" in verdict.reason


def test_a_difference_that_a_few_photos_make_is_not_enough():
    """Two photos more: of the resamples e^-2 = 13.5 % draw neither, so the 95 % bound is 0 and the 80 % bound above."""
    two_more, champion = evaluation(102, 100), evaluation(100, 100, "version 1")
    assert not judge(two_more, champion, PromoteConfig()).passed
    assert judge(two_more, champion, PromoteConfig(confidence=0.8)).passed


def test_the_margin_is_held_against_the_lower_bound_not_the_difference():
    candidate, champion = evaluation(130, 130), evaluation(100, 100, "version 1")
    low = lower_bound(candidate.resamples["rsum"] - champion.resamples["rsum"])
    difference = candidate.recalls.rsum - champion.recalls.rsum
    assert low + 5 < difference
    assert judge(candidate, champion, PromoteConfig(margin=low - 0.1)).passed
    assert not judge(candidate, champion, PromoteConfig(margin=low + 0.1)).passed


@pytest.mark.parametrize("sides", [(96, 160), (160, 96)])
def test_no_side_may_pay_for_the_other(sides: tuple[int, int]):
    candidate, champion = evaluation(*sides), evaluation(100, 100, "version 1")
    verdict = judge(candidate, champion, PromoteConfig())  # four photos of 200 are 6 points
    assert not verdict.passed
    assert f"{'image-to-text' if sides[0] == 96 else 'text-to-image'} retrieval" in verdict.reason
    assert "falls by 6.0 points, max_drop 3 (" in verdict.reason
    assert judge(candidate, champion, PromoteConfig(max_drop=6)).passed


def test_a_first_version_that_is_no_better_than_chance_is_refused():
    assert judge(evaluation(20, 20), None, PromoteConfig()).passed
    verdict = judge(evaluation(1, 1), None, PromoteConfig())
    assert not verdict.passed
    assert verdict.reason.startswith(
        "candidate is not better than the random baseline (validation rSum 3.0, at 95 % at most"
    )
    assert verdict.reason.endswith("random baseline 16.0)")


def test_few_photos_do_not_refuse_a_first_version():
    """Of ten photos one is found at once and three more among five, where chance has one and five."""
    (fold,) = cut_folds(None, 10, np.arange(10))
    ranks = np.array([0, 3, 3, 3, *[9] * 6])
    few = Evaluation("candidate", "val", 10, 10, [fold], [Ranks(ranks, ranks)])
    assert few.recalls.rsum < few.random_baseline.rsum
    assert judge(few, None, PromoteConfig()).passed


@pytest.mark.parametrize("bad", [{"margin": -1}, {"max_drop": float("inf")}, {"confidence": 95}, {"confidence": 0.3}])
def test_refusals_name_the_field(bad: dict[str, float]):
    with pytest.raises(ValueError, match=f"promote.{next(iter(bad))} is"):
        PromoteConfig(**bad)
