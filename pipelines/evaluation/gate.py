"""Is a candidate better than the champion? Decided on the same resamples of the same photos for both."""

from dataclasses import asdict, dataclass

from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.results import SIDES, Evaluation, figures
from shan_model.bootstrap import lower_bound, upper_bound


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate passes, why in one line, and the figures that say so."""

    passed: bool
    reason: str
    figures: dict[str, float]


def judge(candidate: Evaluation, champion: Evaluation | None, config: PromoteConfig) -> Verdict:
    """Against the champion, or against chance where there is none."""
    return _against_chance(candidate, config) if champion is None else _against_champion(candidate, champion, config)


def _against_chance(candidate: Evaluation, config: PromoteConfig) -> Verdict:
    """Refused where all but a share 1 - confidence of the resamples are no better: a few photos prove little."""
    ours, chance = candidate.recalls.rsum, candidate.chance.rsum
    high = upper_bound(candidate.resamples["rsum"], config.confidence)
    told = f"validation rSum {ours:.1f}, at {100 * config.confidence:g} % at most {high:.1f}, chance {chance:.1f}"
    passed = high > chance
    reason = f"the first version ({told})" if passed else f"{candidate.model} is no better than chance ({told})"
    return Verdict(passed, reason, {"rsum": ours, "rsum_upper_bound": high, "chance_rsum": chance})


def _against_champion(candidate: Evaluation, champion: Evaluation, config: PromoteConfig) -> Verdict:
    ours, theirs = figures(candidate.recalls), figures(champion.recalls)
    low = lower_bound(candidate.resamples["rsum"] - champion.resamples["rsum"], config.confidence)
    told = (
        f"validation rSum {ours['rsum']:.1f} against {theirs['rsum']:.1f} of {champion.model}: "
        f"{ours['rsum'] - theirs['rsum']:+.1f}, at {100 * config.confidence:g} % at least {low:+.1f}, "
        f"margin {config.margin:g}"
    )
    sums = ("text_sum", "image_sum", "rsum")
    measured = {name: ours[name] for name in sums} | {f"champion_{name}": theirs[name] for name in sums}
    measured |= {"rsum_lower_bound": low, **asdict(config)}
    if not low > config.margin:
        return Verdict(False, f"{candidate.model} is not better ({told})", measured)
    for side, name in SIDES.items():
        drop = theirs[f"{side}_sum"] - ours[f"{side}_sum"]
        if drop > config.max_drop:
            fault = f"{name} falls by {drop:.1f} points, max_drop {config.max_drop:g}"
            return Verdict(False, f"{candidate.model} breaks a floor: {fault} ({told})", measured)
    return Verdict(True, f"better ({told})", measured)
