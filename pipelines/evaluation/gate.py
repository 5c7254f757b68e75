"""Is a candidate better than the champion? Decided on the same resamples of the same photos for both."""

from dataclasses import asdict, dataclass

from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.results import DIRECTIONS, Evaluation
from shan_model.bootstrap import lower_bound, upper_bound


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate passes, why in one line, and the figures that say so."""

    passed: bool
    reason: str
    figures: dict[str, float]


def judge(candidate: Evaluation, champion: Evaluation | None, config: PromoteConfig) -> Verdict:
    """Against the champion, or against the random baseline where there is none."""
    return _against_random(candidate, config) if champion is None else _against_champion(candidate, champion, config)


def _against_random(candidate: Evaluation, config: PromoteConfig) -> Verdict:
    """Refused where all but a share 1 - confidence of the resamples are no better: a few photos prove little."""
    ours, chance = candidate.recalls.rsum, candidate.random_baseline.rsum
    high = upper_bound(candidate.resamples["rsum"], config.confidence)
    told = (
        f"validation rSum {ours:.1f}, at {100 * config.confidence:g} % at most {high:.1f}, random baseline {chance:.1f}"
    )
    passed = high > chance
    reason = (
        f"the first version ({told})"
        if passed
        else f"{candidate.model} is not better than the random baseline ({told})"
    )
    return Verdict(passed, reason, {"rsum": ours, "rsum_upper_bound": high, "random_rsum": chance})


def _against_champion(candidate: Evaluation, champion: Evaluation, config: PromoteConfig) -> Verdict:
    ours, theirs = candidate.metrics, champion.metrics
    low = lower_bound(candidate.resamples["rsum"] - champion.resamples["rsum"], config.confidence)
    told = (
        f"validation rSum {ours['rsum']:.1f} against {theirs['rsum']:.1f} of {champion.model}: "
        f"{ours['rsum'] - theirs['rsum']:+.1f}, at {100 * config.confidence:g} % at least {low:+.1f}, "
        f"margin {config.margin:g}"
    )
    sums = ("image_to_text_sum", "text_to_image_sum", "rsum")
    measured = {name: ours[name] for name in sums} | {f"champion_{name}": theirs[name] for name in sums}
    measured |= {"rsum_lower_bound": low, **asdict(config)}
    if not low > config.margin:
        return Verdict(False, f"{candidate.model} is not better ({told})", measured)
    for direction, name in DIRECTIONS.items():
        drop = theirs[f"{direction}_sum"] - ours[f"{direction}_sum"]
        if drop > config.max_drop:
            fault = f"{name} falls by {drop:.1f} points, max_drop {config.max_drop:g}"
            return Verdict(False, f"{candidate.model} breaks a floor: {fault} ({told})", measured)
    return Verdict(True, f"better ({told})", measured)
