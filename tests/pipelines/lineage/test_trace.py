"""The lineage of real versions, runs and feature sets: intact, with each link broken in turn, and out of reach."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.registry import set_champions
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.detectors import registry
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import manifest_name, snapshot_name
from pipelines.lineage.report import Lineage
from pipelines.lineage.trace import trace
from pipelines.models.load import load_model
from pipelines.search.index_commands import load_version
from tests.support import feature_sets
from tests.support.commands import call_command
from tests.support.indexes import build_here
from tests.support.registered import write_plugin
from tests.support.small_models import model, register_model, write_checkpoint

KINDS = ["manifest", "detector", "feature set", "run", "version"]


@dataclass(frozen=True)
class Chain:
    """A feature set of a plugin detector, and a version that was trained on it and carries the detector."""

    folder: Path
    features: FeatureSet
    tracking: Tracking
    run_id: str

    def trace(self, uri: str = "models:/m/1") -> Lineage:
        return trace(uri, TrackingConfig(uri=self.tracking.uri, experiment="not that of the run"))

    def stored(self, name: str) -> Path:
        """Returns the file of that name in the stored model."""
        (path,) = (self.folder / "artifacts" / "models").rglob(name)
        return path


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    detector = write_plugin(folder / "plugin")
    sys.path.insert(0, str(folder / "plugin"))
    fingerprint = registry.resolve(detector.name, detector.settings).fingerprint()
    photos = feature_sets.manifest(folder, 12)
    features = feature_sets.write_set(folder, photos, detector=detector, fingerprint=fingerprint)
    tracking = connect(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db"))
    register_model(tracking, "m", model(features), features, folder / "bundle")
    run_id = tracking.client().get_model_version("m", "1").run_id
    yield Chain(folder, features, tracking, run_id)
    sys.path.remove(str(folder / "plugin"))
    for name in [name for name in sys.modules if name.startswith("striped_detector")]:
        del sys.modules[name]


@pytest.fixture
def chain(intact: Chain, tmp_path: Path) -> Iterator[Chain]:
    """The chain for a test that changes it; files, tags and versions are restored afterwards."""
    client, files = intact.tracking.client(), ("set", "plugin", "artifacts")
    run_tags, version_tags = client.get_run(intact.run_id).data.tags, client.get_model_version("m", "1").tags
    for name in files:
        shutil.copytree(intact.folder / name, tmp_path / name)
    yield intact
    for name in files:
        shutil.rmtree(intact.folder / name, ignore_errors=True)
        shutil.copytree(tmp_path / name, intact.folder / name)
    if client.get_run(intact.run_id).info.lifecycle_stage == "deleted":
        client.restore_run(intact.run_id)
    for key, value in run_tags.items():
        client.set_tag(intact.run_id, key, value)
    for key, value in version_tags.items():
        client.set_model_version_tag("m", "1", key, value)
    for version in client.search_model_versions("name = 'm'"):
        if str(version.version) != "1":
            client.delete_model_version("m", version.version)


def found(lineage: Lineage, state: str) -> list[tuple[str, str]]:
    """Returns kind and finding of the checks with a state."""
    return [(node.kind, check.finding) for node in lineage.nodes for check in node.checks if check.state == state]


def test_every_link_of_an_intact_chain_holds(intact: Chain):
    set_champions(intact.tracking, "m", [1])
    by_version = intact.trace("models:/m@champion")
    assert [node.kind for node in by_version.nodes] == KINDS
    assert by_version.count("ok") == 8
    assert not found(by_version, "broken") + found(by_version, "not checked")
    by_run, by_set = intact.trace(f"runs:/{intact.run_id}"), intact.trace(intact.features.uri)
    assert by_run.nodes == by_set.nodes == by_version.nodes == intact.trace().nodes
    names = {node.kind: node.name for node in by_version.nodes}
    assert names == {
        "manifest": f"tiny, {intact.features.index.manifest[:12]}",
        "detector": intact.features.index.fingerprint,
        "feature set": intact.features.pinned_uri,
        "run": f"runs:/{intact.run_id}",
        "version": "models:/m/1",
    }


def test_an_index_is_traced_to_its_model_and_feature_sets(intact: Chain, tmp_path: Path):
    config = TrackingConfig(uri=intact.tracking.uri)
    index = build_here(load_version("models:/m/1", config), [intact.features], tmp_path)
    traced = intact.trace(index.store.uri)
    assert [node.kind for node in traced.nodes] == [*KINDS, "feature set", "index"]
    assert not found(traced, "broken") + found(traced, "not checked")
    assert traced.nodes[-1].name == index.uri
    assert found(traced, "ok")[-3:] == [
        ("feature set", "digest and fingerprint equal those of the index"),
        ("index", f"index and {len(index.document.receipts())} receipts agree, and have this digest"),
        ("index", "models:/m/1 has the files that encoded it"),
    ]


def test_what_an_index_was_made_from_may_be_changed_or_gone(intact: Chain, tmp_path: Path):
    features = intact.features
    checkpoint = write_checkpoint(tmp_path / "model", model(features), features)
    index = build_here(load_model(None, checkpoint), [features], tmp_path / "out")
    assert intact.trace(index.uri).nodes[-1].checks[1].state == "ok"
    write_checkpoint(tmp_path / "model", model(features, seed=1), features)
    (Path(index.store.uri) / sorted(p.name for p in Path(index.store.uri).glob("*.receipt.json"))[0]).unlink()
    broken = [finding for kind, finding in found(intact.trace(index.uri), "broken") if kind == "index"]
    assert broken[0].endswith("is missing, corrupt or differs from the index")
    assert broken[1] == f"{checkpoint} does not have the files that encoded the index"
    shutil.rmtree(tmp_path / "model")
    assert "not a checkpoint folder" in found(intact.trace(index.uri), "not checked")[-1][1]


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))


def break_manifest(chain: Chain) -> None:
    manifest = feature_sets.manifest(chain.folder, 18)
    (Path(chain.features.uri) / manifest_name(chain.features.index.manifest)).write_bytes(
        feature_sets.manifest_bytes(manifest)
    )


def delete_manifest(chain: Chain) -> None:
    (Path(chain.features.uri) / manifest_name(chain.features.index.manifest)).unlink()


def break_weights(chain: Chain) -> None:
    (chain.folder / "plugin" / "weights.txt").write_text("3.0")


def break_index(chain: Chain) -> None:
    for name in ("index.json", snapshot_name(chain.features.index.feature_set)):
        rewrite(Path(chain.features.uri) / name, lambda text: text.replace('"tiny"', '"other"'))


def break_receipt(chain: Chain) -> None:
    rewrite(feature_sets.receipt_of(chain.features, "p0"), lambda text: text.replace('"p0"', '"p77"'))


def break_run(chain: Chain) -> None:
    chain.tracking.client().set_tag(chain.run_id, "lineage.manifest", "f" * 64)


def delete_run(chain: Chain) -> None:
    chain.tracking.client().delete_run(chain.run_id)


def break_version(chain: Chain) -> None:
    chain.tracking.client().set_model_version_tag("m", "1", "feature_set", "f" * 64)


def break_run_of_version(chain: Chain) -> None:
    chain.tracking.client().set_model_version_tag("m", "1", "run", "0123")


def break_carried_weights(chain: Chain) -> None:
    chain.stored("weights-weights.txt").write_text("3.0")


def break_carried_detector(chain: Chain) -> None:
    rewrite(chain.stored("detector.json"), lambda text: text.replace(chain.features.index.fingerprint, "other-1"))


def corrupt_carried_detector(chain: Chain) -> None:
    chain.stored("detector.json").write_text("{")


def break_stored_model(chain: Chain) -> None:
    rewrite(chain.stored("MLmodel"), lambda text: text.replace(chain.features.index.manifest, "f" * 64))


def delete_stored_model(chain: Chain) -> None:
    shutil.rmtree(chain.folder / "artifacts" / "models")


@pytest.mark.parametrize(
    ("break_it", "kinds", "finding"),
    [
        (break_manifest, ["manifest"], "does not have the digest in its index"),
        (delete_manifest, ["manifest"], "does not exist; extract the data set again"),
        (break_weights, ["detector"], "settings or weights have changed"),
        (break_index, ["feature set"], "the index is corrupt"),
        (break_receipt, ["feature set"], "the index or a receipt is corrupt"),
        (break_run, ["run", "version"], "manifest of its tags is ffff"),
        (delete_run, ["run"], "it is deleted; `mlflow runs restore --run-id"),
        (break_version, ["version", "version"], "feature_set of its tags is ffff"),
        (break_run_of_version, ["version"], "run of its tags is 0123, but the run has"),
        (break_carried_weights, ["version"], "computed from the detector that it carries it is stripes-"),
        (break_carried_detector, ["version"], "its detector has the fingerprint other-1, its tags have stripes-"),
        (corrupt_carried_detector, ["version"], "detector.json is corrupt"),
        (break_stored_model, ["version"], "manifest of its files is ffff"),
        (delete_stored_model, ["version"], "not a model of this project (its MLmodel"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_broken_link_is_found(
    chain: Chain,
    break_it: Callable[[Chain], None],
    kinds: list[str],
    finding: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    break_it(chain)
    lineage = chain.trace()
    broken = found(lineage, "broken")
    assert [kind for kind, _ in broken] == kinds, lineage.text()
    assert finding in broken[0][1]
    options = [f"--tracking.uri={chain.tracking.uri}", "models:/m/1"]
    code, out, _ = call_command(monkeypatch, capsys, "jobs.lineage", *options)
    assert (code, out) == (1, f"{lineage.text()}\n")


def test_deleted_run_is_a_broken_link(chain: Chain):
    client = chain.tracking.client()
    version = client.create_model_version("m", "file:///nowhere", run_id="0" * 32, tags=chain.features.lineage)
    lineage = chain.trace(f"models:/m/{version.version}")
    assert ("run", "the tracking store has no such run") in found(lineage, "broken")
    assert ("feature set", "its URI is a tag of the run") in found(lineage, "not checked")


def test_a_moved_feature_set_is_found_by_its_new_uri(chain: Chain):
    moved = Path(chain.features.uri).rename(chain.folder / "moved")
    lineage = chain.trace()
    assert not lineage.is_broken, lineage.text()
    assert ("feature set", "it is not there: moved, deleted, or on another machine") in found(lineage, "not checked")
    assert [kind for kind, _ in found(lineage, "ok")] == ["run", "version", "version", "version"]
    at_its_new_place = chain.trace(str(moved))
    assert [node.kind for node in at_its_new_place.nodes] == KINDS
    assert at_its_new_place.count("ok") == 8


def test_an_extended_feature_set_is_checked_by_its_snapshot(chain: Chain):
    detector = chain.features.index.detector
    fingerprint = chain.features.index.fingerprint
    photos = feature_sets.manifest(chain.folder, 18)
    extended = feature_sets.write_set(chain.folder, photos, detector=detector, fingerprint=fingerprint)
    assert extended.index.feature_set != chain.features.index.feature_set
    assert chain.trace().count("ok") == 8
    assert [node.kind for node in chain.trace(extended.uri).nodes] == KINDS[:3]  # no run read it
    Path(extended.uri, snapshot_name(chain.features.index.feature_set)).unlink()
    assert [kind for kind, _ in found(chain.trace(), "not checked")] == KINDS[:3]


def test_a_detector_that_is_not_installed_is_not_checked(intact: Chain, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("striped_detector")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(intact.folder / "plugin")])
    lineage = intact.trace()
    assert not lineage.is_broken, lineage.text()
    assert [kind for kind, _ in found(lineage, "not checked")] == ["detector", "version"]


def test_imported_features_and_a_tracking_store_that_is_away(tmp_path: Path):
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path))
    lineage = trace(features.uri, TrackingConfig(uri="http://127.0.0.1:9"))
    assert not lineage.is_broken
    assert [kind for kind, _ in found(lineage, "not checked")] == ["detector", "run"]
    assert "the features were imported (made-up)" in found(lineage, "not checked")[0][1]


def test_a_feature_set_is_traced_without_a_tracking_store(tmp_path: Path):
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path))
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    unchecked = found(trace(features.uri, TrackingConfig(uri=uri)), "not checked")
    assert unchecked[-1] == ("run", f"tracking.uri {uri} does not exist")
    assert not (tmp_path / "new").exists()


def test_json_holds_every_object_and_check(
    intact: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    options = [f"--tracking.uri={intact.tracking.uri}", intact.features.uri, "--json"]
    code, out, _ = call_command(monkeypatch, capsys, "jobs.lineage", *options)
    document = json.loads(out)
    assert (code, document["uri"], document["broken"]) == (0, intact.features.uri, False)
    assert [each["kind"] for each in document["objects"]] == KINDS
    assert {check["state"] for each in document["objects"] for check in each["checks"]} == {"ok"}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/none@champion", "models:/none@champion: no such model at sqlite:"),
        ("models:/m/99", "models:/m/99: no such model at sqlite:"),
        ("models:/m", "models:/m is not the URI of a version; give models:/<name>@champion"),
        ("runs:/none", "has no run none"),
    ],
)
def test_a_uri_that_names_nothing_is_an_error(intact: Chain, uri: str, message: str):
    with pytest.raises(UserError, match=message):
        intact.trace(uri)


def test_a_run_without_features_has_no_lineage(intact: Chain):
    run_id = intact.tracking.create_run("other", {})
    with pytest.raises(UserError, match=r"has no lineage .* give a run of jobs\.train"):
        intact.trace(f"runs:/{run_id}")
