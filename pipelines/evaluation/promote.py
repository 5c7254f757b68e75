"""pipelines/evaluation/promote.py."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.registry import annotate, champion_version, champions, set_champions
from infra.registry_lock import registry_lock
from infra.tracking import Tracking
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.gate import Verdict, judge
from pipelines.evaluation.model_card import model_card, pinned
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.results import Evaluation
from pipelines.evaluation.score import ScoreConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import load_matcher
from shan_model.model import SHAN

SPLIT = "val"


@dataclass(frozen=True)
class Decision:
    """Who is champion now, and why."""

    name: str
    champion: int | None
    reason: str

    def __str__(self) -> str:
        """One line."""
        if self.champion is None:
            return f"models:/{self.name} has no champion: {self.reason}"
        return f"models:/{self.name}@champion is version {self.champion}: {self.reason}"


@dataclass(frozen=True)
class Contender:
    """A version, loaded and measured."""

    shan: SHAN
    evaluation: Evaluation


def promote(
    tracking: Tracking,
    name: str,
    candidate: int,
    features: FeatureSet,
    config: PromoteConfig,
    score: ScoreConfig,
    cluster: ClusterConfig,
    dry_run: bool = False,
) -> Decision:
    """Gives the alias to the candidate if the gate says so, and notes on the version what was decided and why.

    Models are measured before the lock is taken; if another promotion was quicker, the candidate meets the new one.
    With `dry_run` nothing is written. UserError if a version cannot be had or the lock is left by a killed process.
    """
    measured: dict[int, Contender] = {}
    while True:
        champion = champion_version(tracking, name)
        if champion == candidate:
            return Decision(name, candidate, "it was champion already")
        versions = [candidate] if champion is None else [candidate, champion]
        for version in versions:
            if version not in measured:
                measured[version] = _measure(tracking, name, version, features, score, cluster)
        met = [measured[version] for version in versions]
        verdict = judge(met[0].evaluation, met[1].evaluation if champion is not None else None, config)
        decision = Decision(name, candidate if verdict.passed else champion, verdict.reason)
        if dry_run:
            return decision
        with registry_lock(tracking, name, _free_command(name)) as lock:
            if champion_version(tracking, name) != champion:
                continue
            lock.check()  # before the notes, which say what was decided
            _note(tracking, name, candidate, champion, features, met, verdict)
            if verdict.passed:
                history = champions(tracking, name)
                lock.check()
                set_champions(tracking, name, [*history, candidate])
        return decision


def rollback(tracking: Tracking, name: str, reason: str, dry_run: bool = False) -> Decision:
    """Gives the alias back to the champion before; UserError if there is none."""
    with nullcontext() if dry_run else registry_lock(tracking, name, _free_command(name)) as lock:
        history = champions(tracking, name)
        if len(history) < 2:
            raise UserError(f"models:/{name} has no champion before the present one; promote another version instead")
        *_, before, present = history
        if lock is not None:
            annotate(tracking, name, present, {"rolled_back_at": _now().isoformat(), "rolled_back": reason})
            lock.check()
            set_champions(tracking, name, history[:-1])
    return Decision(name, before, f"version {present} was rolled back ({reason})")


def check_champion(tracking: Tracking, name: str, features: FeatureSet) -> None:
    """UserError if the present champion reads other features, so that no candidate trained on these could meet it."""
    champion = champion_version(tracking, name)
    if champion is None:
        return
    made_for = tracking.client().get_model_version(name, str(champion)).tags.get("fingerprint")
    if made_for != features.lineage["fingerprint"]:
        raise UserError(
            f"models:/{name}@champion (version {champion}) was made for features of {made_for}, {features.uri} has "
            f"{features.lineage['fingerprint']}; they cannot be compared: take the alias off it first"
        )


def _measure(
    tracking: Tracking, name: str, version: int, features: FeatureSet, score: ScoreConfig, cluster: ClusterConfig
) -> Contender:
    shan = load_matcher(tracking, f"models:/{name}/{version}", features)
    score = replace(score, cache_file="")  # two models cannot share a kept matrix
    return Contender(shan, evaluate(shan, f"version {version}", features.split(SPLIT), score, cluster))


def _note(
    tracking: Tracking,
    name: str,
    candidate: int,
    champion: int | None,
    features: FeatureSet,
    met: list[Contender],
    verdict: Verdict,
) -> None:
    """Decision, figures and what they were measured on, as tags and as the version's card."""
    now = _now()
    tags: dict[str, object] = {
        "promotion": verdict.reason,
        "promotion.decision": "promoted" if verdict.passed else "refused",
        "promotion.at": now.isoformat(),
        "promotion.against": "random baseline" if champion is None else champion,
        "promotion.features": pinned(features),
        "promotion.split": SPLIT,
        **{f"promotion.{key}": f"{value:.4f}" for key, value in verdict.figures.items()},
    }
    if verdict.passed:
        tags |= {"promoted_at": now.isoformat(), "replaced": "" if champion is None else champion}
    lineage = tracking.client().get_model_version(name, str(candidate)).tags
    evaluations = [contender.evaluation for contender in met]
    card = model_card(name, candidate, met[0].shan, lineage, features, evaluations, verdict, now)
    annotate(tracking, name, candidate, tags, card)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _free_command(name: str) -> str:
    return f"python -m jobs.promote --name {name} --unlock"
