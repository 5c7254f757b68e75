"""Promotes a registered model version to champion if it meets the promotion criterion, and rolls back.

MLflow has no compare-and-swap for aliases, so the alias moves only while a registry lock is held
(infra/registry_lock.py) and after the champion has been read again.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.registry import annotate, champion_version, champions, set_champions
from infra.registry_lock import registry_lock
from infra.source_tree import program
from infra.tracking import Tracking
from pipelines.evaluation.comparison import ComparisonData
from pipelines.evaluation.criterion import Decision, decide, thresholds
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.evaluated_model_card import evaluated_model_card, snapshot_uri
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.results import Evaluation
from pipelines.evaluation.score import ScoreConfig
from pipelines.features.feature_set import FeatureSet, Split
from pipelines.features.pairing import paired_splits
from pipelines.models.load import load_matcher
from pipelines.models.selection import read_selection
from shan_model.model import SHAN

_IS_CHAMPION = "it is already the champion"


@dataclass(frozen=True)
class ChampionState:
    """The champion of a registered model after a promotion or a rollback, and the reason."""

    name: str
    champion: int | None
    reason: str

    def __str__(self) -> str:
        """Returns one line."""
        if self.champion is None:
            return f"models:/{self.name} has no champion: {self.reason}"
        return f"models:/{self.name}@champion is version {self.champion}: {self.reason}"


@dataclass(frozen=True)
class EvaluatedVersion:
    """A loaded version and its evaluation."""

    number: int
    shan: SHAN
    evaluation: Evaluation
    features: FeatureSet
    """Features of the detector that the version was trained on."""
    tags: Mapping[str, str]
    """Tags of the version: its lineage, and how a sweep selected it."""


def promote(
    tracking: Tracking,
    name: str,
    challenger: int,
    data: ComparisonData,
    config: PromoteConfig,
    score: ScoreConfig,
    cluster: ClusterConfig,
    *,
    dry_run: bool = False,
    device: str = "cpu",
) -> ChampionState:
    """Moves the alias to the challenger if it meets the criterion; tags the version with the decision and a model card.

    Each version is evaluated on features of its own detector, on `device`, before the lock is taken. If another
    promotion moved the alias meanwhile, the challenger is compared with the new champion. With `dry_run` nothing is
    written. Raises UserError if a version cannot be loaded, if it was made for other features, if the feature sets do
    not have the same photos and captions, and if the lock cannot be acquired.
    """
    evaluated: dict[tuple[int, str, tuple[str, ...] | None], EvaluatedVersion] = {}
    while True:
        champion = champion_version(tracking, name)
        if champion == challenger:
            return ChampionState(name, challenger, _IS_CHAMPION)
        feature_sets = {challenger: data.features}
        if champion is not None:
            feature_sets[champion] = data.of_champion(tracking, name, champion)
        splits = paired_splits(list(feature_sets.values()), config.split, data.intersect)
        compared = []
        for (version, features), split in zip(feature_sets.items(), splits, strict=True):
            key = version, features.pinned_uri, split.selected
            if key not in evaluated:
                evaluated[key] = _evaluate_version(tracking, name, version, features, split, score, cluster, device)
            compared.append(evaluated[key])
        decision = decide(compared[0].evaluation, None if champion is None else compared[1].evaluation, config)
        notes = _selection_note(compared) + _pairing_note(splits)
        decision = replace(decision, reason=decision.reason + notes)
        state = ChampionState(name, challenger if decision.promote else champion, decision.reason)
        if dry_run:
            return state
        with registry_lock(tracking, name, _unlock_command(name)) as lock:
            if champion_version(tracking, name) != champion:
                continue
            lock.check()  # before the tags, which record the decision
            _record_decision(tracking, name, compared, decision)
            if decision.promote:
                history = champions(tracking, name)
                lock.check()
                set_champions(tracking, name, [*history, challenger])
        return state


def earlier_decision(
    tracking: Tracking, name: str, challenger: int, features: FeatureSet, config: PromoteConfig
) -> ChampionState | None:
    """Returns the decision on a challenger that still holds; None if the challenger is to be compared.

    It holds if the challenger is the champion, if it was rolled back, and if it was rejected with the same thresholds,
    on the same photos, against the version that is champion now.
    """
    champion = champion_version(tracking, name)
    tags = tracking.client().get_model_version(name, str(challenger)).tags
    if champion == challenger:
        return ChampionState(name, challenger, _IS_CHAMPION)
    if "rolled_back_at" in tags:
        reason = (
            f"version {challenger} was rolled back ({tags['rollback_reason']}); {program('promote')} promotes it again"
        )
        return ChampionState(name, champion, reason)
    if tags.get("promotion.decision") != "rejected":
        return None
    expected = {
        "compared_with": _opponent(champion),
        "feature_set": snapshot_uri(features),
        "split": config.split,
        **({} if champion is None else _thresholds(config)),
    }
    holds = all(tags.get(f"promotion.{key}") == value for key, value in expected.items())
    return ChampionState(name, champion, tags["promotion.reason"]) if holds else None


def _opponent(champion: int | None) -> str:
    """Returns what a challenger is compared with, as the tag `promotion.compared_with` names it."""
    return "random baseline" if champion is None else str(champion)


def _thresholds(config: PromoteConfig) -> dict[str, str]:
    return {name: f"{value:.4f}" for name, value in thresholds(config).items()}


def rollback(tracking: Tracking, name: str, reason: str, dry_run: bool = False) -> ChampionState:
    """Moves the alias back to the previous champion and tags the current one with the reason.

    Raises UserError if there is no previous champion and if the lock cannot be acquired.
    """
    with nullcontext() if dry_run else registry_lock(tracking, name, _unlock_command(name)) as lock:
        history = champions(tracking, name)
        if len(history) < 2:
            raise UserError(f"models:/{name} has no previous champion to roll back to; promote another version instead")
        *_, previous, current = history
        if lock is not None:
            annotate(tracking, name, current, {"rolled_back_at": _now().isoformat(), "rollback_reason": reason})
            lock.check()
            set_champions(tracking, name, history[:-1])
    return ChampionState(name, previous, f"version {current} was rolled back ({reason})")


def _evaluate_version(
    tracking: Tracking,
    name: str,
    version: int,
    features: FeatureSet,
    split: Split,
    score: ScoreConfig,
    cluster: ClusterConfig,
    device: str,
) -> EvaluatedVersion:
    shan = load_matcher(tracking, f"models:/{name}/{version}", features, device)
    score = replace(score, cache_file="")  # two models cannot share one score cache
    evaluation = evaluate(shan, f"version {version}", split, score, cluster)
    tags = tracking.client().get_model_version(name, str(version)).tags
    return EvaluatedVersion(version, shan, evaluation, features, tags)


def _selected_on_split(compared: list[EvaluatedVersion]) -> dict[int, str]:
    """Returns the versions that a sweep selected on the split on which they were evaluated, and how."""
    found = {}
    for version in compared:
        selection = read_selection(version.tags)
        if selection is not None and selection.is_biased_on(version.features.dataset, version.evaluation.split):
            found[version.number] = str(selection)
    return found


def _pairing_note(splits: list[Split]) -> str:
    """Returns the end of the reason if photos were left out of the comparison; empty otherwise."""
    common = splits[0].selected
    if common is None or all(split.photos_stored == len(common) for split in splits):
        return ""
    of = " and ".join(str(split.photos_stored) for split in splits)
    return f"; on the {len(common)} photos that both feature sets have, of {of}"


def _selection_note(compared: list[EvaluatedVersion]) -> str:
    """Returns the end of the reason if the bounds do not cover how a sweep selected a version; empty otherwise."""
    selected = _selected_on_split(compared)
    versions = " and ".join(f"version {number} ({selection})" for number, selection in selected.items())
    return f"; optimistic for {versions}: compare on another promote.split" if selected else ""


def _record_decision(tracking: Tracking, name: str, compared: list[EvaluatedVersion], decision: Decision) -> None:
    """Writes the decision, its metrics and the data behind them as tags of the challenger, and its model card."""
    challenger, *champion = compared
    now, selected, features = _now(), _selected_on_split(compared), challenger.features
    tags: dict[str, object] = {
        "promotion.decision": "promoted" if decision.promote else "rejected",
        "promotion.reason": decision.reason,
        "promotion.decided_at": now.isoformat(),
        "promotion.compared_with": _opponent(champion[0].number if champion else None),
        "promotion.feature_set": snapshot_uri(features),
        "promotion.fingerprint": features.lineage["fingerprint"],
        "promotion.split": challenger.evaluation.split,
        "promotion.selected_on_split": ", ".join(map(str, selected)) or "none",
        **{f"promotion.{key}": f"{value:.4f}" for key, value in decision.metrics.items()},
    }
    if champion:
        tags |= {
            "promotion.champion_feature_set": snapshot_uri(champion[0].features),
            "promotion.champion_fingerprint": champion[0].features.lineage["fingerprint"],
        }
    if decision.promote:
        tags |= {"promoted_at": now.isoformat(), "replaced_version": champion[0].number if champion else ""}
    evaluations = [version.evaluation for version in compared]
    card = evaluated_model_card(
        name, challenger.number, challenger.shan, challenger.tags, features, evaluations, decision, now
    )
    annotate(tracking, name, challenger.number, tags, card)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _unlock_command(name: str) -> str:
    return f"{program('promote')} --name {name} --unlock"
