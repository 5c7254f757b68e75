"""The decision on a challenger, as tags of its version: written after a comparison, and read before the next one."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from infra.registry import annotate
from infra.tracking import Tracking
from pipelines.evaluation.criterion import Decision, thresholds
from pipelines.evaluation.evaluated_model_card import evaluated_model_card, snapshot_uri
from pipelines.evaluation.evaluated_version import EvaluatedVersion, selected_on_split
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.features.feature_set import FeatureSet

_ALL = "all"
"""Value of `promotion.photos` if no photo was left out."""


def is_rejected(tags: Mapping[str, str]) -> bool:
    """Returns whether the tags have a rejection, which `rejection_holds` compares with what is asked now."""
    return tags.get("promotion.decision") == "rejected"


def rejection_holds(
    tags: Mapping[str, str],
    champion: int | None,
    feature_sets: Sequence[FeatureSet],
    intersect: bool,
    config: PromoteConfig,
    precision: str,
) -> bool:
    """Returns whether a rejection was made against the present champion, by these settings, on these photos.

    `feature_sets` are those of the challenger and of the champion. A rejection by an early 0.2, which did not record
    the photos and the precision, does not hold.
    """
    photos = tags.get("promotion.photos")
    if photos is None or (photos != _ALL and not intersect):
        return False
    expected = {
        "compared_with": _opponent(champion),
        "split": config.split,
        "precision": precision,
        **_feature_sets(feature_sets),
        **{name: f"{value:.4f}" for name, value in thresholds(config, has_champion=champion is not None).items()},
    }
    return all(tags.get(f"promotion.{key}") == value for key, value in expected.items())


def _opponent(champion: int | None) -> str:
    """Returns what a challenger is compared with, as the tag `promotion.compared_with` names it."""
    return "random baseline" if champion is None else str(champion)


def _feature_sets(feature_sets: Sequence[FeatureSet]) -> dict[str, str]:
    """Returns those of the challenger and, if there is one, of the champion."""
    return dict(zip(("feature_set", "champion_feature_set"), map(snapshot_uri, feature_sets), strict=False))


def record_decision(
    tracking: Tracking, name: str, compared: list[EvaluatedVersion], decision: Decision, left_out: str, precision: str
) -> None:
    """Writes the decision, its metrics and the data behind them as tags of the challenger, and its model card.

    `left_out` is the `pairing_note` of the photos, `precision` that of the scores.
    """
    challenger, *champion = compared
    time, selected, features = now(), selected_on_split(compared), challenger.features
    tags: dict[str, object] = {
        "promotion.decision": "promoted" if decision.promote else "rejected",
        "promotion.reason": decision.reason,
        "promotion.decided_at": time.isoformat(),
        "promotion.compared_with": _opponent(champion[0].number if champion else None),
        **{f"promotion.{key}": uri for key, uri in _feature_sets([each.features for each in compared]).items()},
        "promotion.fingerprint": features.index.fingerprint,
        "promotion.split": challenger.evaluation.split,
        "promotion.photos": left_out or _ALL,
        "promotion.precision": precision,
        "promotion.selected_on_split": ", ".join(map(str, selected)) or "none",
        **{f"promotion.{key}": f"{value:.4f}" for key, value in decision.metrics.items()},
    }
    if champion:
        tags["promotion.champion_fingerprint"] = champion[0].features.index.fingerprint
    if decision.promote:
        tags |= {"promoted_at": time.isoformat(), "replaced_version": champion[0].number if champion else ""}
    evaluations = [version.evaluation for version in compared]
    card = evaluated_model_card(
        name, challenger.number, challenger.shan, challenger.tags, features, evaluations, decision, time
    )
    annotate(tracking, name, challenger.number, tags, card)


def now() -> datetime:
    """Returns the time of a decision, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
