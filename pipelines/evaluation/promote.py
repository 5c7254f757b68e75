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
from pipelines.evaluation.criterion import Decision, decide
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.model_card import model_card, snapshot_uri
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.results import Evaluation
from pipelines.evaluation.score import ScoreConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import load_matcher
from pipelines.models.selection import read_selection
from shan_model.model import SHAN


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
    tags: Mapping[str, str]
    """Tags of the version: its lineage, and how a sweep selected it."""


def promote(
    tracking: Tracking,
    name: str,
    challenger: int,
    features: FeatureSet,
    config: PromoteConfig,
    score: ScoreConfig,
    cluster: ClusterConfig,
    *,
    dry_run: bool = False,
    device: str = "cpu",
) -> ChampionState:
    """Moves the alias to the challenger if it meets the criterion; tags the version with the decision and a model card.

    Versions are evaluated on `device`, before the lock is taken. If another promotion moved the alias meanwhile, the
    challenger is compared with the new champion. With `dry_run` nothing is written. Raises UserError if a version
    cannot be loaded, if it was made for other features, and if the lock cannot be acquired.
    """
    evaluated: dict[int, EvaluatedVersion] = {}
    while True:
        champion = champion_version(tracking, name)
        if champion == challenger:
            return ChampionState(name, challenger, "it is already the champion")
        versions = [challenger] if champion is None else [challenger, champion]
        for version in versions:
            if version not in evaluated:
                evaluated[version] = _evaluate_version(
                    tracking, name, version, features, config.split, score, cluster, device
                )
        compared = [evaluated[version] for version in versions]
        decision = decide(compared[0].evaluation, None if champion is None else compared[1].evaluation, config)
        decision = replace(decision, reason=decision.reason + _selection_note(compared, features))
        state = ChampionState(name, challenger if decision.promote else champion, decision.reason)
        if dry_run:
            return state
        with registry_lock(tracking, name, _unlock_command(name)) as lock:
            if champion_version(tracking, name) != champion:
                continue
            lock.check()  # before the tags, which record the decision
            _record_decision(tracking, name, features, compared, decision)
            if decision.promote:
                history = champions(tracking, name)
                lock.check()
                set_champions(tracking, name, [*history, challenger])
        return state


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


def check_champion(tracking: Tracking, name: str, fingerprint: str) -> None:
    """Raises UserError if the champion was trained on features of another fingerprint.

    A version trained on features of this one could not be compared with it.
    """
    champion = champion_version(tracking, name)
    if champion is None:
        return
    made_for = tracking.client().get_model_version(name, str(champion)).tags.get("fingerprint")
    if made_for != fingerprint:
        raise UserError(
            f"models:/{name}@champion (version {champion}) was made for features of {made_for}, but those of the "
            f"detector are of {fingerprint}, so they cannot be compared; remove the alias first"
        )


def _evaluate_version(
    tracking: Tracking,
    name: str,
    version: int,
    features: FeatureSet,
    split: str,
    score: ScoreConfig,
    cluster: ClusterConfig,
    device: str,
) -> EvaluatedVersion:
    shan = load_matcher(tracking, f"models:/{name}/{version}", features, device)
    score = replace(score, cache_file="")  # two models cannot share one score cache
    evaluation = evaluate(shan, f"version {version}", features.captioned(split), score, cluster)
    return EvaluatedVersion(version, shan, evaluation, tracking.client().get_model_version(name, str(version)).tags)


def _selected_on_split(compared: list[EvaluatedVersion], features: FeatureSet) -> dict[int, str]:
    """Returns the versions that a sweep selected on the split on which they were evaluated, and how."""
    found = {}
    for version in compared:
        selection = read_selection(version.tags)
        if selection is not None and selection.is_biased_on(features.dataset, version.evaluation.split):
            found[version.number] = str(selection)
    return found


def _selection_note(compared: list[EvaluatedVersion], features: FeatureSet) -> str:
    """Returns the end of the reason if the bounds do not cover how a sweep selected a version; empty otherwise."""
    selected = _selected_on_split(compared, features)
    versions = " and ".join(f"version {number} ({selection})" for number, selection in selected.items())
    return f"; optimistic for {versions}: compare on another promote.split" if selected else ""


def _record_decision(
    tracking: Tracking, name: str, features: FeatureSet, compared: list[EvaluatedVersion], decision: Decision
) -> None:
    """Writes the decision, its metrics and the data behind them as tags of the challenger, and its model card."""
    challenger, *champion = compared
    now, selected = _now(), _selected_on_split(compared, features)
    tags: dict[str, object] = {
        "promotion.decision": "promoted" if decision.promote else "rejected",
        "promotion.reason": decision.reason,
        "promotion.decided_at": now.isoformat(),
        "promotion.compared_with": champion[0].number if champion else "random baseline",
        "promotion.feature_set": snapshot_uri(features),
        "promotion.split": challenger.evaluation.split,
        "promotion.selected_on_split": ", ".join(map(str, selected)) or "none",
        **{f"promotion.{key}": f"{value:.4f}" for key, value in decision.metrics.items()},
    }
    if decision.promote:
        tags |= {"promoted_at": now.isoformat(), "replaced_version": champion[0].number if champion else ""}
    evaluations = [version.evaluation for version in compared]
    card = model_card(name, challenger.number, challenger.shan, challenger.tags, features, evaluations, decision, now)
    annotate(tracking, name, challenger.number, tags, card)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _unlock_command(name: str) -> str:
    return f"{program('promote')} --name {name} --unlock"
