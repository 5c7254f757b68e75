"""The promotion criterion: decides whether a challenger becomes champion, on paired bootstrap resamples.

A challenger has to beat the champion by a margin in rSum, without losing more than `max_drop` in either direction of
retrieval. Where there is no champion, a challenger is rejected only if it is significantly worse than the random
baseline.
"""

from dataclasses import dataclass

from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.results import DIRECTIONS, Evaluation
from shan_model.bootstrap import lower_bound, upper_bound

SPLIT_TITLES = {"val": "validation", "test": "test"}
"""The splits of `promote.split` as reasons name them."""


@dataclass(frozen=True)
class Decision:
    """The result of the promotion criterion."""

    promote: bool
    reason: str
    """One line with the metrics that decided."""
    metrics: dict[str, float]
    """Metrics of challenger and champion, bounds and thresholds by name; they become tags of the version."""


def decide(challenger: Evaluation, champion: Evaluation | None, config: PromoteConfig) -> Decision:
    """Compares the challenger with the champion, or with the random baseline if `champion` is None.

    Both evaluations must be of the same split, so that their resamples are paired.
    """
    if champion is None:
        return _against_random_baseline(challenger, config)
    return _against_champion(challenger, champion, config)


def thresholds(config: PromoteConfig, *, has_champion: bool) -> dict[str, float]:
    """Returns the thresholds that apply against a champion, or against the random baseline, by name."""
    names = ("margin", "confidence", "max_drop") if has_champion else ("confidence",)
    return {name: getattr(config, name) for name in names}


def _against_random_baseline(challenger: Evaluation, config: PromoteConfig) -> Decision:
    """Rejects only if the upper bound is not above the baseline: on a few photos even a good model may look random."""
    rsum, baseline = challenger.recalls.rsum, challenger.random_baseline.rsum
    high = upper_bound(challenger.resamples["rsum"], config.confidence)
    details = (
        f"{SPLIT_TITLES[challenger.split]} rSum {rsum:.1f}, {100 * config.confidence:g} % upper bound {high:.1f}, "
        f"random baseline {baseline:.1f}"
    )
    metrics = {"rsum": rsum, "rsum_upper_bound": high, "random_rsum": baseline}
    metrics |= thresholds(config, has_champion=False)
    if high > baseline:
        return Decision(True, f"the first version ({details})", metrics)
    return Decision(False, f"{challenger.model} is not better than the random baseline ({details})", metrics)


def _against_champion(challenger: Evaluation, champion: Evaluation, config: PromoteConfig) -> Decision:
    ours, theirs = challenger.metrics, champion.metrics
    low = lower_bound(challenger.resamples["rsum"] - champion.resamples["rsum"], config.confidence)
    details = (
        f"{SPLIT_TITLES[challenger.split]} rSum {ours['rsum']:.1f}, champion {champion.model} {theirs['rsum']:.1f}: "
        f"difference {ours['rsum'] - theirs['rsum']:+.1f}, {100 * config.confidence:g} % lower bound {low:+.1f}, "
        f"margin {config.margin:g}"
    )
    sums = ("image_to_text_sum", "text_to_image_sum", "rsum")
    metrics = {name: ours[name] for name in sums} | {f"champion_{name}": theirs[name] for name in sums}
    metrics |= {"rsum_lower_bound": low, **thresholds(config, has_champion=True)}
    if not low > config.margin:
        return Decision(False, f"{challenger.model} is not better ({details})", metrics)
    for direction, title in DIRECTIONS.items():
        drop = theirs[f"{direction}_sum"] - ours[f"{direction}_sum"]
        if drop > config.max_drop:
            loss = f"{title} drops by {drop:.1f} points, max_drop {config.max_drop:g}"
            return Decision(False, f"{challenger.model} is worse in one direction: {loss} ({details})", metrics)
    return Decision(True, f"better ({details})", metrics)
