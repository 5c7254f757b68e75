"""Promotes a registered model version to champion if it meets the promotion criterion, and rolls back.

MLflow has no compare-and-swap for aliases, so the alias moves only while a registry lock is held
(infra/registry_lock.py) and after the champion has been read again.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.outages import outage_as_warning
from infra.registry import annotate, champion_version, champions, set_champions
from infra.registry_lock import registry_lock
from infra.source_tree import program
from infra.tracking import Tracking
from pipelines.evaluation.comparison import ComparisonData
from pipelines.evaluation.criterion import Decision, decide
from pipelines.evaluation.decision_tags import is_rejected, now, record_decision, rejection_holds
from pipelines.evaluation.evaluated_version import (
    EvaluatedVersion,
    evaluate_version,
    log_compared_data,
    selected_on_split,
)
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.features.pairing import paired_splits, pairing_note
from pipelines.features.split import Split

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
    promotion moved the alias meanwhile, the challenger is compared with the new champion. The runs of both list what
    they were compared on. With `dry_run` nothing is written. Raises UserError if a version cannot be loaded, if it was
    made for other features, if the feature sets do not have the same photos and captions, and if the lock cannot be
    acquired.
    """
    comparison = _Comparison(tracking, name, challenger, data, config, score, cluster, device)
    while True:
        champion = champion_version(tracking, name)
        if champion == challenger:
            return ChampionState(name, challenger, _IS_CHAMPION)
        compared, decision, left_out = comparison.with_champion(champion)
        state = ChampionState(name, challenger if decision.promote else champion, decision.reason)
        if dry_run:
            return state
        with registry_lock(tracking, name, _unlock_command(name)) as lock:
            if champion_version(tracking, name) != champion:
                continue
            lock.check()  # before the tags, which record the decision
            record_decision(tracking, name, compared, decision, left_out, score.precision)
            if decision.promote:
                history = champions(tracking, name)
                lock.check()
                set_champions(tracking, name, [*history, challenger])
        with outage_as_warning("the runs do not list what their versions were compared on"):
            log_compared_data(tracking, compared)
        return state


@dataclass(frozen=True)
class _Comparison:
    """A challenger, and what it is compared on. No version is evaluated twice on the same photos."""

    tracking: Tracking
    name: str
    challenger: int
    data: ComparisonData
    config: PromoteConfig
    score: ScoreConfig
    cluster: ClusterConfig
    device: str
    evaluated: dict[tuple[int, str, tuple[str, ...] | None], EvaluatedVersion] = field(default_factory=dict)

    def with_champion(self, champion: int | None) -> tuple[list[EvaluatedVersion], Decision, str]:
        """Returns the evaluations of the challenger and of a champion, the decision, and which photos were left out."""
        versions = [self.challenger] if champion is None else [self.challenger, champion]
        feature_sets = self.data.feature_sets(self.tracking, self.name, champion)
        splits = paired_splits(feature_sets, self.config.split, self.data.intersect)
        compared = [self._evaluate(*each) for each in zip(versions, feature_sets, splits, strict=True)]
        decision = decide(compared[0].evaluation, None if champion is None else compared[1].evaluation, self.config)
        left_out = pairing_note(splits)
        notes = _selection_note(compared) + (left_out and f"; {left_out}")
        return compared, replace(decision, reason=decision.reason + notes), left_out

    def _evaluate(self, version: int, features: FeatureSet, split: Split) -> EvaluatedVersion:
        key = version, features.pinned_uri, split.selected
        if key not in self.evaluated:
            self.evaluated[key] = evaluate_version(
                self.tracking, self.name, version, features, split, self.score, self.cluster, self.device
            )
        return self.evaluated[key]


def earlier_decision(
    tracking: Tracking, name: str, challenger: int, data: ComparisonData, config: PromoteConfig, score: ScoreConfig
) -> ChampionState | None:
    """Returns the decision on a challenger that still holds; None if the challenger is to be compared.

    It holds if the challenger is the champion, if it was rolled back, and if it was rejected with the same thresholds
    and precision, on the same features of both versions and the same photos, against the version that is champion now.
    Raises UserError if the features of the champion cannot be opened.
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
    if is_rejected(tags) and rejection_holds(
        tags, champion, data.feature_sets(tracking, name, champion), data.intersect, config, score.precision
    ):
        return ChampionState(name, champion, tags["promotion.reason"])
    return None


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
            annotate(tracking, name, current, {"rolled_back_at": now().isoformat(), "rollback_reason": reason})
            lock.check()
            set_champions(tracking, name, history[:-1])
    return ChampionState(name, previous, f"version {current} was rolled back ({reason})")


def _selection_note(compared: list[EvaluatedVersion]) -> str:
    """Returns the end of the reason if the bounds do not cover how a sweep selected a version; empty otherwise."""
    selected = selected_on_split(compared)
    versions = " and ".join(f"version {number} ({selection})" for number, selection in selected.items())
    return f"; optimistic for {versions}: compare on another promote.split" if selected else ""


def _unlock_command(name: str) -> str:
    return f"{program('promote')} --name {name} --unlock"
