"""The decision on a challenger, as tags of its version: written after a comparison, and read before the next one."""

from collections.abc import Mapping
from datetime import UTC, datetime

from infra.registry import annotate
from infra.tracking import Tracking
from pipelines.evaluation.criterion import Decision, thresholds
from pipelines.evaluation.evaluated_model_card import evaluated_model_card, snapshot_uri
from pipelines.evaluation.evaluated_version import EvaluatedVersion, selected_on_split
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.features.feature_set import FeatureSet


def decision_holds(tags: Mapping[str, str], champion: int | None, features: FeatureSet, config: PromoteConfig) -> bool:
    """Returns whether the tags have a rejection by these thresholds, on these photos, against the present champion."""
    if tags.get("promotion.decision") != "rejected":
        return False
    expected = {
        "compared_with": _opponent(champion),
        "feature_set": snapshot_uri(features),
        "split": config.split,
        **({} if champion is None else _thresholds(config)),
    }
    return all(tags.get(f"promotion.{key}") == value for key, value in expected.items())


def _opponent(champion: int | None) -> str:
    """Returns what a challenger is compared with, as the tag `promotion.compared_with` names it."""
    return "random baseline" if champion is None else str(champion)


def _thresholds(config: PromoteConfig) -> dict[str, str]:
    return {name: f"{value:.4f}" for name, value in thresholds(config).items()}


def record_decision(tracking: Tracking, name: str, compared: list[EvaluatedVersion], decision: Decision) -> None:
    """Writes the decision, its metrics and the data behind them as tags of the challenger, and its model card."""
    challenger, *champion = compared
    time, selected, features = now(), selected_on_split(compared), challenger.features
    tags: dict[str, object] = {
        "promotion.decision": "promoted" if decision.promote else "rejected",
        "promotion.reason": decision.reason,
        "promotion.decided_at": time.isoformat(),
        "promotion.compared_with": _opponent(champion[0].number if champion else None),
        "promotion.feature_set": snapshot_uri(features),
        "promotion.fingerprint": features.index.fingerprint,
        "promotion.split": challenger.evaluation.split,
        "promotion.selected_on_split": ", ".join(map(str, selected)) or "none",
        **{f"promotion.{key}": f"{value:.4f}" for key, value in decision.metrics.items()},
    }
    if champion:
        tags |= {
            "promotion.champion_feature_set": snapshot_uri(champion[0].features),
            "promotion.champion_fingerprint": champion[0].features.index.fingerprint,
        }
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
