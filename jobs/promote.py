"""Moves the alias `champion` to a candidate version if it is better than the present champion.

    python -m jobs.promote --name shan-flickr30k --version 7 --features URI

Both are evaluated again, by the same code, on the validation split of one feature set; the test split stays unseen.
"""

from dataclasses import dataclass, replace
from typing import Any

import infra.tracking
from infra.errors import UserError
from infra.registry import champion_version, set_champion
from infra.tracking import Tracking
from jobs import cli
from jobs.config import Config
from jobs.evaluate import evaluate, load_matcher
from pipelines.feature_set import FeatureSet

SPLIT = "val"


@dataclass(frozen=True)
class Decision:
    """Who is champion now, and why."""

    name: str
    champion: int
    reason: str

    def __str__(self) -> str:
        """One line."""
        return f"models:/{self.name}@champion is version {self.champion}: {self.reason}"


def promote(tracking: Tracking, name: str, candidate: int, features: FeatureSet, config: Config) -> Decision:
    """Gives the alias to the candidate if there is no champion yet or its rSum is higher; notes why on the version."""
    champion = champion_version(tracking, name)
    if champion == candidate:
        return Decision(name, candidate, "it was champion already")
    if champion is None:
        load_matcher(tracking, f"models:/{name}/{candidate}", features)  # it is there, loads, and reads these features
        decision = Decision(name, candidate, "the first version")
    else:
        new, old = (_rsum(tracking, name, number, features, config) for number in (candidate, champion))
        figures = f"validation rSum {new:.1f} against {old:.1f} of version"
        if new <= old:
            return Decision(name, champion, f"version {candidate} is not better ({figures} {champion})")
        decision = Decision(name, candidate, f"better ({figures} {champion})")
    set_champion(tracking, name, candidate, {"promotion": decision.reason})
    return decision


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


def _rsum(tracking: Tracking, name: str, version: int, features: FeatureSet, config: Config) -> float:
    uri = f"models:/{name}/{version}"
    config = replace(config, score=replace(config.score, output=""))  # two models cannot share a kept matrix
    return evaluate(load_matcher(tracking, uri, features), uri, features.split(SPLIT), config).recalls.rsum


def _arguments(parser: Any) -> None:
    parser.add_argument("--name", type=str, required=True, help="registered model")
    parser.add_argument("--version", type=int, required=True, help="candidate version")
    parser.add_argument("--features", type=str, required=True, help="URI of the feature set to compare on")


def main() -> None:
    """Command line."""
    arguments, config = cli.parse(
        "promote", "A candidate version to champion, if it is better.", _arguments, ("score", "tracking", "cluster")
    )
    features = FeatureSet.open(arguments.features)
    tracking = infra.tracking.connect(config.tracking)
    print(promote(tracking, arguments.name, arguments.version, features, config))


if __name__ == "__main__":
    cli.run(main)
