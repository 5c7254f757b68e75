"""The lineage of a search index: its feature sets, its receipts, and the model that encoded it."""

import shutil
from dataclasses import replace
from pathlib import Path

from infra.tracking import TrackingConfig
from pipelines.features.layout import manifest_name
from pipelines.lineage.indexed import index_nodes
from pipelines.models.load import load_model
from pipelines.search.index_commands import load_version
from tests.pipelines.lineage.conftest import KINDS, Chain, found
from tests.support import feature_sets
from tests.support.bad_stores import at_every_expiry
from tests.support.indexes import build_here
from tests.support.small_models import model, write_checkpoint


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


def test_each_indexed_feature_set_is_traced_to_its_photos(intact: Chain, tmp_path: Path):
    config, own = TrackingConfig(uri=intact.tracking.uri), intact.features.index
    photos = replace(feature_sets.manifest(tmp_path, 6), name="other")
    second = feature_sets.write_set(tmp_path, photos, detector=own.detector, fingerprint=own.fingerprint)
    index = build_here(load_version("models:/m/1", config), [intact.features, second], tmp_path / "out")
    traced = intact.trace(index.uri)
    assert [node.kind for node in traced.nodes] == [*KINDS, "feature set", *KINDS[:3], "index"]
    assert not found(traced, "broken") + found(traced, "not checked")
    Path(second.uri, manifest_name(second.index.manifest)).unlink()
    ((kind, finding),) = found(intact.trace(index.uri), "broken")
    assert kind == "manifest"
    assert "does not exist; extract the data set again" in finding


def test_what_an_index_was_made_from_may_be_changed_or_gone(intact: Chain, tmp_path: Path):
    features = intact.features
    checkpoint = write_checkpoint(tmp_path / "model", model(features), features)
    index = build_here(load_model(None, checkpoint), [features], tmp_path / "out")
    assert [node.kind for node in intact.trace(index.uri).nodes] == [*KINDS[:3], "index"]
    assert intact.trace(index.uri).nodes[-1].checks[1].state == "ok"
    write_checkpoint(tmp_path / "model", model(features, seed=1), features)
    (Path(index.store.uri) / sorted(p.name for p in Path(index.store.uri).glob("*.receipt.json"))[0]).unlink()
    broken = [finding for kind, finding in found(intact.trace(index.uri), "broken") if kind == "index"]
    assert broken[0].endswith("is missing, corrupt or differs from the index")
    assert broken[1] == f"{checkpoint} does not have the files that encoded the index"
    shutil.rmtree(tmp_path / "model")
    assert "not a checkpoint folder" in found(intact.trace(index.uri), "not checked")[-1][1]


def test_an_expired_token_breaks_no_link(intact: Chain, tmp_path: Path):
    config = TrackingConfig(uri=intact.tracking.uri)
    index = build_here(load_version("models:/m/1", config), [intact.features], tmp_path)
    *refused, checked = at_every_expiry(lambda: index_nodes(index.store, index.document, config, ()))
    assert refused
    for nodes in refused:
        states = {check.state for node in nodes for check in node.checks}
        assert states == {"ok", "not checked"}, nodes
    assert {check.state for node in checked for check in node.checks} == {"ok"}
