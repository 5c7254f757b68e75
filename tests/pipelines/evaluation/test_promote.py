"""Promotion and rollback in a real registry, on SQLite and on a server, also by two processes at a time."""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.registry import champion_version, champions, set_champions
from infra.registry_lock import lock_name, registry_lock
from infra.tracking import Tracking, TrackingConfig, connect
from jobs import promote as job
from pipelines.evaluation import promote as promotion
from pipelines.evaluation.comparison import ComparisonData
from pipelines.evaluation.promote import earlier_decision, promote, rollback
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.models.selection import Selection, record_selection
from tests.support import ROOT, feature_sets
from tests.support.processes import wait_during
from tests.support.small_models import model, register_model, small_set

UNTRAINED, BETTER, BEST = 1, 2, 3
"""Versions of every registered model in these tests, in the order of their quality."""


@dataclass(frozen=True)
class Registry:
    """A tracking store with three registered versions, and the feature set on which they are compared."""

    tracking: Tracking
    features: FeatureSet

    def name(self, name: str, champion: int | None = UNTRAINED) -> str:
        """Registers a model with the three versions, one of which may be the champion; returns its name."""
        client = self.tracking.client()
        client.create_registered_model(name)
        for version in (UNTRAINED, BETTER, BEST):
            client.copy_model_version(f"models:/stock/{version}", name)
        if champion is not None:
            set_champions(self.tracking, name, [champion])
        return name

    def promote(
        self,
        name: str,
        version: int,
        config: PromoteConfig | None = None,
        dry_run: bool = False,
        data: ComparisonData | None = None,
    ) -> str:
        return str(
            promote(
                self.tracking,
                name,
                version,
                data or ComparisonData(self.features),
                config or PromoteConfig(),
                ScoreConfig(cache_file="/of/a/pipeline.npy", cache_dtype="float16"),  # promotions ignore it
                ClusterConfig(),
                dry_run=dry_run,
            )
        )

    def earlier(self, name: str, version: int, data: ComparisonData, **config: Any) -> str:
        return str(earlier_decision(self.tracking, name, version, data, PromoteConfig(**config), ScoreConfig()))

    def tags(self, name: str, version: int) -> dict[str, str]:
        return self.tracking.client().get_model_version(name, str(version)).tags

    def everything(self, name: str) -> list[object]:
        """Returns all that the registry stores under a name."""
        client = self.tracking.client()
        versions = client.search_model_versions(f"name = '{name}'")
        return [dict(client.get_registered_model(name)), sorted(str(dict(version)) for version in versions)]


def another_snapshot(features: FeatureSet) -> FeatureSet:
    return replace(features, index=replace(features.index, feature_set="0" * 64))


def stock(tracking: Tracking, folder: Path, name: str = "stock") -> Registry:
    features = small_set(folder)
    for steps in (0, 3, 20):
        register_model(tracking, name, model(features, steps), features, folder / f"bundle-{steps}")
    return Registry(tracking, features)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("registry")
    return stock(connect(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")), folder)


@pytest.fixture(scope="module")
def served(mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("served")
    return stock(connect(TrackingConfig(uri=mlflow_uri, experiment="promotion")), folder)


def start(registry: Registry, log: Path, *argv: str) -> "subprocess.Popen[bytes]":
    """Starts the command with its output in a file."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.promote", f"--tracking.uri={registry.tracking.uri}", *argv],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def test_a_better_version_becomes_champion(registry: Registry):
    name = registry.name("better")
    said = registry.promote(name, BETTER)
    assert said.startswith(f"models:/{name}@champion is version {BETTER}: better (validation rSum ")
    assert champion_version(registry.tracking, name) == BETTER
    tags = registry.tags(name, BETTER)
    assert tags["promotion.decision"] == "promoted"
    assert tags["promotion.compared_with"] == tags["replaced_version"] == str(UNTRAINED)
    assert float(tags["promotion.rsum"]) > float(tags["promotion.champion_rsum"])
    assert tags["promotion.reason"] in said
    digest = registry.features.index.feature_set
    assert tags["promotion.feature_set"] == f"{registry.features.uri}@{digest[:12]}"
    assert FeatureSet.open(tags["promotion.feature_set"]).index.feature_set == digest
    card = registry.tracking.client().get_model_version(name, str(BETTER)).description
    assert len(card) < 5000  # a server's database takes no more
    assert f"| rSum | {float(tags['promotion.rsum']) - float(tags['promotion.champion_rsum']):+.1f} |" in card
    assert f'load_model("models:/{name}/{BETTER}")' in card
    assert f"Split train of data set {registry.features.dataset} (train 119 photos, 238 captions; val 30 photos" in card
    assert registry.features.uri not in card


def test_the_runs_of_both_versions_list_the_compared_split(registry: Registry):
    name = registry.name("compared-on")
    registry.promote(name, BETTER, PromoteConfig(split="test"), dry_run=True)
    assert "test" not in datasets(registry, name, BETTER)
    for _ in range(2):
        registry.promote(name, BETTER, PromoteConfig(split="test", margin=600))
    for version in (UNTRAINED, BETTER):
        assert datasets(registry, name, version)["test"] == (registry.features.index.feature_set[:12], "promotion")


def datasets(registry: Registry, name: str, version: int) -> dict[str, tuple[str, str]]:
    """Returns digest and context of the splits that the run of a version lists."""
    client = registry.tracking.client()
    run = client.get_run(client.get_model_version(name, str(version)).run_id)
    inputs = run.inputs.dataset_inputs
    found = {each.dataset.name.split()[-1]: (each.dataset.digest, each.tags[0].value) for each in inputs}
    assert len(found) == len(inputs)
    return found


def test_a_worse_version_is_tagged_but_not_promoted(registry: Registry):
    name = registry.name("worse", champion=BEST)
    said = registry.promote(name, BETTER)
    assert said.startswith(f"models:/{name}@champion is version {BEST}: version {BETTER} is not better (")
    assert champion_version(registry.tracking, name) == BEST
    tags = registry.tags(name, BETTER)
    assert tags["promotion.decision"] == "rejected"
    assert "promoted_at" not in tags
    assert "Not promoted on" in registry.tracking.client().get_model_version(name, str(BETTER)).description


def test_the_first_version_is_compared_with_the_random_baseline(registry: Registry):
    name = registry.name("first", champion=None)
    said = registry.promote(name, BEST)
    assert "is version 3: the first version (validation rSum" in said
    assert registry.tags(name, BEST)["promotion.compared_with"] == "random baseline"
    assert registry.tags(name, BEST)["replaced_version"] == ""
    assert "it is already the champion" in registry.promote(name, BEST)


def test_a_decision_holds_until_its_inputs_change(registry: Registry):
    name, data = registry.name("held", champion=BETTER), ComparisonData(registry.features)
    assert registry.earlier(name, UNTRAINED, data) == "None"
    assert registry.promote(name, UNTRAINED) == registry.earlier(name, UNTRAINED, data)
    for change in ({"margin": 1.0}, {"confidence": 0.9}, {"max_drop": 1.0}, {"split": "test"}):
        assert registry.earlier(name, UNTRAINED, data, **change) == "None", change
    assert registry.earlier(name, UNTRAINED, ComparisonData(another_snapshot(registry.features))) == "None"
    registry.promote(name, BEST)
    assert registry.earlier(name, BEST, data).endswith(f"is version {BEST}: it is already the champion")
    assert registry.earlier(name, UNTRAINED, data) == "None"  # there is another champion
    rollback(registry.tracking, name, "bad at night")
    assert f"version {BEST} was rolled back (bad at night)" in registry.earlier(name, BEST, data)


def test_a_dry_run_makes_the_same_decision_and_writes_nothing(registry: Registry):
    name = registry.name("dry")
    before = registry.everything(name)
    said = registry.promote(name, BEST, dry_run=True)
    assert registry.everything(name) == before
    assert registry.promote(name, BEST) == said
    assert registry.everything(name) != before
    before = registry.everything(name)
    assert rollback(registry.tracking, name, "why", dry_run=True).champion == UNTRAINED
    assert registry.everything(name) == before


def test_rollback_restores_champions_one_by_one_with_the_reason(registry: Registry):
    name = registry.name("back")
    for version in (BETTER, BEST):
        registry.promote(name, version)
    assert champions(registry.tracking, name) == [UNTRAINED, BETTER, BEST]
    assert str(rollback(registry.tracking, name, "bad at night")).endswith("version 3 was rolled back (bad at night)")
    assert champion_version(registry.tracking, name) == BETTER
    assert registry.tags(name, BEST)["rollback_reason"] == "bad at night"
    assert registry.tags(name, BEST)["rolled_back_at"] > registry.tags(name, BEST)["promoted_at"][:10]
    registry.promote(name, BEST)
    rollback(registry.tracking, name, "again")
    assert rollback(registry.tracking, name, "and again").champion == UNTRAINED
    with pytest.raises(UserError, match="no previous champion to roll back to"):
        rollback(registry.tracking, name, "once more")


def test_the_history_follows_an_interrupted_or_manual_move(registry: Registry):
    name, client = registry.name("history"), registry.tracking.client()
    set_champions(registry.tracking, name, [UNTRAINED, BETTER, BEST])
    client.set_registered_model_alias(name, "champion", str(BETTER))  # a rollback that was killed before its note
    assert champions(registry.tracking, name) == [UNTRAINED, BETTER]
    set_champions(registry.tracking, name, [UNTRAINED, BETTER])
    client.set_registered_model_alias(name, "champion", str(BEST))  # by hand, or a promotion that was killed
    assert champions(registry.tracking, name) == [UNTRAINED, BETTER, BEST]
    client.delete_model_version(name, str(BETTER))
    assert champions(registry.tracking, name) == [UNTRAINED, BEST]


def test_the_configured_margin_is_applied(registry: Registry):
    name = registry.name("margin")
    assert "is not better" in registry.promote(name, BEST, PromoteConfig(margin=590))
    assert champion_version(registry.tracking, name) == UNTRAINED


def test_a_promotion_on_the_test_split_is_recorded_as_such(registry: Registry):
    name = registry.name("test split")
    said = registry.promote(name, BEST, PromoteConfig(split="test"))
    assert "(test rSum " in said
    assert registry.tags(name, BEST)["promotion.split"] == "test"
    assert "**test: " in registry.tracking.client().get_model_version(name, str(BEST)).description


def test_version_selected_by_sweep_on_split_is_marked(registry: Registry):
    """The intervals do not contain that the best of several trials is partly lucky on the split that selected it."""
    name, client = registry.name("swept", champion=None), registry.tracking.client()
    for version, trials in ((UNTRAINED, 3), (BETTER, 8), (BEST, 1)):
        selection = Selection("0123", trials, "val", registry.features.dataset)
        record_selection(registry.tracking, name, version, selection)
    registry.promote(name, UNTRAINED)
    said = registry.promote(name, BETTER)
    note = (
        "optimistic for version 2 (the best of 8 trials of a sweep on val) and version 1 (the best of 3 trials of a "
        "sweep on val): compare on another promote.split"
    )
    assert said.endswith(note)
    assert registry.tags(name, BETTER)["promotion.reason"].endswith(note)
    assert registry.tags(name, BETTER)["promotion.selected_on_split"] == "2, 1"
    assert note in client.get_model_version(name, str(BETTER)).description
    said = registry.promote(name, BEST, PromoteConfig(split="test"))
    assert "optimistic" not in said
    assert registry.tags(name, BEST)["promotion.selected_on_split"] == "none"
    said = registry.promote(name, BEST)  # the only trial of its sweep
    assert "optimistic for version 2 (" in said
    assert "version 3 (" not in said


def test_features_of_another_detector_are_an_error(registry: Registry):
    index = replace(registry.features.index, fingerprint="another-1")
    other = replace(registry.features, index=index)
    with pytest.raises(UserError, match=r"was made for features of made-up-0123 but .* has features of another-1"):
        registry.promote(registry.name("features"), BEST, data=ComparisonData(other))


@dataclass(frozen=True)
class Upgrade:
    """The same photos with features of another detector, and a good version that was trained on them."""

    features: FeatureSet
    name: str
    version: int


def upgrade(registry: Registry, folder: Path, name: str, photos: int = 180) -> Upgrade:
    """Registers a champion for the first detector and a better version for the other one."""
    rows = feature_sets.manifest(folder, photos)
    change = {row.key: {"regions_RF": feature_sets.sample(row, seed=1).regions_RF} for row in rows.photos()}
    features = feature_sets.write_set(folder, rows, change, fingerprint="made-up-4567")
    registry.name(name)
    shan = model(features, 20)
    return Upgrade(features, name, register_model(registry.tracking, name, shan, features, folder / "bundle"))


def test_promotion_and_rollback_across_detectors(registry: Registry, tmp_path: Path):
    new = upgrade(registry, tmp_path, "upgrade")
    said = registry.promote(new.name, new.version, data=ComparisonData(new.features))
    assert f"@champion is version {new.version}: better (" in said
    tags = registry.tags(new.name, new.version)
    assert (tags["promotion.fingerprint"], tags["promotion.champion_fingerprint"]) == ("made-up-4567", "made-up-0123")
    assert tags["promotion.feature_set"] == new.features.pinned_uri
    assert tags["promotion.champion_feature_set"] == registry.features.pinned_uri
    on_own = registry.name("upgrade, old detector only", champion=None)
    registry.promote(on_own, UNTRAINED)
    assert registry.tags(on_own, UNTRAINED)["promotion.rsum"] == tags["promotion.champion_rsum"]

    assert rollback(registry.tracking, new.name, "worse at night").champion == UNTRAINED
    assert registry.tags(new.name, UNTRAINED)["fingerprint"] == "made-up-0123"


def test_photos_of_both_detectors_are_equal_or_intersected(registry: Registry, tmp_path: Path):
    new = upgrade(registry, tmp_path, "intersect", photos=150)
    with pytest.raises(UserError, match=r"split 'val' has 25 photos .* 30 photos .*; add --intersect to compare on"):
        registry.promote(new.name, new.version, data=ComparisonData(new.features))
    data = ComparisonData(new.features, intersect=True)
    rejected = registry.promote(new.name, new.version, PromoteConfig(margin=590), data=data)
    assert registry.earlier(new.name, new.version, data, margin=590) == rejected
    for change in ({"intersect": False}, {"champion_features": another_snapshot(registry.features)}):
        assert registry.earlier(new.name, new.version, replace(data, **change), margin=590) == "None", change
    said = registry.promote(new.name, new.version, data=data)
    note = "; on the 25 photos that both feature sets have, of 25 and 30"
    assert said.endswith(note)
    assert registry.tags(new.name, new.version)["promotion.reason"].endswith(note)


@pytest.mark.long
def test_a_champion_whose_features_moved_needs_their_uri(registry: Registry, tmp_path: Path):
    new = upgrade(registry, tmp_path / "new", "moved")
    old = stock(registry.tracking, tmp_path / "old", "moved stock")
    client = registry.tracking.client()
    client.copy_model_version(f"models:/moved stock/{UNTRAINED}", new.name)
    champion = new.version + 1
    set_champions(registry.tracking, new.name, [champion])
    moved = tmp_path / "moved"
    Path(old.features.uri).rename(moved)
    message = rf"^models:/moved/{champion} was trained on {old.features.uri}, which cannot be opened .* --champion-feat"
    with pytest.raises(UserError, match=message):
        registry.promote(new.name, new.version, data=ComparisonData(new.features))
    data = ComparisonData(new.features, FeatureSet.open(str(moved)))
    assert "better (" in registry.promote(new.name, new.version, data=data)


def test_the_command_promotes_across_detectors(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    new = upgrade(registry, tmp_path, "by command", photos=150)
    options = [f"--name={new.name}", f"--tracking.uri={registry.tracking.uri}"]
    across = [f"--features={new.features.uri}", f"--champion-features={registry.features.uri}", "--intersect"]
    monkeypatch.setattr(sys, "argv", ["promote", *options, f"--version={new.version}", *across])
    job.main()
    assert f"models:/{new.name}@champion is version {new.version}: better" in capsys.readouterr().out
    for option in across[1:]:
        monkeypatch.setattr(sys, "argv", ["promote", *options, "--rollback=bad", option])
        with pytest.raises(UserError, match=f"^{option.partition('=')[0]} has no effect with --rollback"):
            job.main()


def test_command_in_lock_error_releases_the_lock(registry: Registry, monkeypatch, capsys):
    name = registry.name("stuck")
    registry.tracking.client().create_registered_model(lock_name(name), {"owner": "process 1 on a", "since": "then"})
    monkeypatch.setattr(sys, "argv", ["train"])
    _, _, *argv = promotion._unlock_command(name).split()
    for said in ("released the lock of process 1 on a since then", "the lock is not held"):
        monkeypatch.setattr(sys, "argv", [*argv, f"--tracking.uri={registry.tracking.uri}"])
        job.main()
        assert said in capsys.readouterr().out
    registry.promote(name, BEST)
    assert champion_version(registry.tracking, name) == BEST


@pytest.mark.long
@pytest.mark.parametrize("kind", ["registry", pytest.param("served", marks=pytest.mark.integration)])
def test_the_better_of_two_concurrent_promotions_wins(kind: str, request: pytest.FixtureRequest, tmp_path: Path):
    """Both evaluate the old champion before either may move the alias."""
    registry: Registry = request.getfixturevalue(kind)
    name = registry.name("race")
    logs = [tmp_path / f"{version}.log" for version in (BETTER, BEST)]
    options = [f"--features={registry.features.uri}", f"--name={name}"]
    with registry_lock(registry.tracking, name, "free it"):
        processes = [start(registry, log, *options, f"--version={log.stem}") for log in logs]
        for process, log in zip(processes, logs, strict=True):  # each scores two models, as its progress bars show
            wait_during(process, log, lambda log=log: log.read_text().count("100%") >= 2)
    for process, log in zip(processes, logs, strict=True):
        assert process.wait(200) == 0, log.read_text()
    assert champion_version(registry.tracking, name) == BEST
    assert champions(registry.tracking, name) in ([UNTRAINED, BEST], [UNTRAINED, BETTER, BEST])
    decided = {version: registry.tags(name, version)["promotion.decision"] for version in (BETTER, BEST)}
    assert decided[BEST] == "promoted"
    overtaken = decided[BETTER] == "rejected"
    assert registry.tags(name, BETTER)["promotion.compared_with"] == str(BEST if overtaken else UNTRAINED)
    assert registry.tags(name, BEST)["promotion.compared_with"] == str(UNTRAINED if overtaken else BETTER)
