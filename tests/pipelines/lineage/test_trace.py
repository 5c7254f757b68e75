"""The lineage of real versions, runs and feature sets: intact, with each link broken in turn, and out of reach."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.tracking import TrackingConfig
from pipelines.features.layout import manifest_name, snapshot_name
from pipelines.features.mlflow_lineage import RUN_TAGS
from pipelines.lineage.trace import trace
from tests.pipelines.lineage.conftest import KINDS, Chain, found, rewrite
from tests.support import feature_sets


def test_every_link_of_an_intact_chain_holds(intact: Chain):
    by_version = intact.trace("models:/m@champion")
    assert [node.kind for node in by_version.nodes] == KINDS
    assert by_version.count("ok") == 12
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
        rewrite(Path(chain.features.uri) / name, '"tiny"', '"other"')


def break_receipt(chain: Chain) -> None:
    rewrite(feature_sets.receipt_of(chain.features, "p0"), '"p0"', '"p77"')


@pytest.mark.parametrize(
    ("break_it", "kinds", "finding"),
    [
        (break_manifest, ["manifest"], "does not have the digest in its index"),
        (delete_manifest, ["manifest"], "does not exist; extract the data set again"),
        (break_weights, ["detector"], "settings or weights have changed"),
        (break_index, ["feature set"], "the index is corrupt"),
        (break_receipt, ["feature set"], "the index or a receipt is corrupt"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_broken_link_is_found(chain: Chain, break_it: Callable[[Chain], None], kinds: list[str], finding: str):
    break_it(chain)
    lineage = chain.trace()
    broken = found(lineage, "broken")
    assert [kind for kind, _ in broken] == kinds, lineage.text()
    assert finding in broken[0][1]


@pytest.mark.parametrize(
    ("deleted", "unchecked"),
    [
        (["lineage.manifest"], []),
        (["lineage.feature_set"], []),
        (["feature_set_uri"], KINDS[:3]),
        (list(RUN_TAGS), KINDS[:3]),
    ],
    ids=str,
)
def test_deleted_tags_of_a_run_are_broken(chain: Chain, deleted: list[str], unchecked: list[str]):
    """The feature set is found by what the version records, and the version is still checked."""
    for name in deleted:
        chain.tracking.client().delete_tag(chain.run_id, name)
    lineage = chain.trace()
    assert found(lineage, "broken") == [("run", f"it has no tag {', '.join(deleted)}")]
    assert [kind for kind, _ in found(lineage, "not checked")] == unchecked
    assert [kind for kind, _ in found(lineage, "ok")].count("version") == 7
    assert chain.trace(f"runs:/{chain.run_id}").nodes == lineage.nodes


def test_a_moved_feature_set_is_found_by_its_new_uri(chain: Chain):
    moved = Path(chain.features.uri).rename(chain.folder / "moved")
    lineage = chain.trace()
    assert not lineage.is_broken, lineage.text()
    assert ("feature set", "it is not there: moved, deleted, or on another machine") in found(lineage, "not checked")
    assert [kind for kind, _ in found(lineage, "ok")] == ["run", *["version"] * 7]
    at_its_new_place = chain.trace(str(moved))
    assert [node.kind for node in at_its_new_place.nodes] == KINDS
    assert at_its_new_place.count("ok") == 12


def test_an_extended_feature_set_is_checked_by_its_snapshot(chain: Chain):
    detector = chain.features.index.detector
    fingerprint = chain.features.index.fingerprint
    photos = feature_sets.manifest(chain.folder, 18)
    extended = feature_sets.write_set(chain.folder, photos, detector=detector, fingerprint=fingerprint)
    assert extended.index.feature_set != chain.features.index.feature_set
    assert chain.trace().count("ok") == 12
    Path(extended.uri, snapshot_name(chain.features.index.feature_set)).unlink()
    assert [kind for kind, _ in found(chain.trace(), "not checked")] == KINDS[:3]


def test_a_detector_that_is_not_installed_is_not_checked(intact: Chain, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("striped_detector")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(intact.folder / "plugin")])
    lineage = intact.trace()
    assert not lineage.is_broken, lineage.text()
    assert [kind for kind, _ in found(lineage, "not checked")] == ["detector", "version"]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "databricks"])
def test_imported_features_and_an_unreachable_tracking_store(tmp_path: Path, uri: str):
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path))
    lineage = trace(features.uri, TrackingConfig(uri=uri))
    assert not lineage.is_broken
    assert [kind for kind, _ in found(lineage, "not checked")] == ["detector", "run"]
    assert "the features were imported (made-up)" in found(lineage, "not checked")[0][1]


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
