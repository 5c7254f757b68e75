"""The runs and versions of a feature set: those of every snapshot, those of deleted runs, and which were champion."""

from functools import partialmethod
from pathlib import Path

import pytest
from mlflow import MlflowClient

from infra.registry import set_champions
from infra.tracking import TrackingConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import snapshot_name
from pipelines.features.mlflow_lineage import RUN_TAGS, run_tags
from pipelines.lineage.trace import trace
from tests.pipelines.lineage.conftest import KINDS, Chain, found
from tests.support import feature_sets


def extend(chain: Chain) -> FeatureSet:
    index = chain.features.index
    photos = feature_sets.manifest(chain.folder, 18)
    extended = feature_sets.write_set(chain.folder, photos, detector=index.detector, fingerprint=index.fingerprint)
    assert extended.index.feature_set != index.feature_set
    return extended


def names(chain: Chain, uri: str, kind: str) -> list[str]:
    return [node.name for node in chain.trace(uri).nodes if node.kind == kind]


def test_versions_of_an_earlier_snapshot_are_listed(chain: Chain):
    extended = extend(chain)
    lineage = chain.trace(extended.uri)
    assert [node.kind for node in lineage.nodes] == [*KINDS[:3], *KINDS]
    assert lineage.nodes[3:] == chain.trace(chain.features.pinned_uri).nodes
    assert not found(lineage, "broken")
    assert [node.kind for node in chain.trace(extended.pinned_uri).nodes] == KINDS[:3]


def test_versions_of_a_deleted_snapshot_are_listed(chain: Chain):
    extended = extend(chain)
    Path(extended.uri, snapshot_name(chain.features.index.feature_set)).unlink()
    lineage = chain.trace(extended.uri)
    assert [node.kind for node in lineage.nodes] == [*KINDS[:3], *KINDS[2:]]
    assert [kind for kind, _ in found(lineage, "not checked")] == ["feature set"]
    assert not found(lineage, "broken")


def test_versions_of_a_moved_and_extended_set_are_listed(chain: Chain, tmp_path: Path):
    extended = extend(chain)
    moved = Path(extended.uri).rename(tmp_path / "moved")
    assert names(chain, str(moved), "version") == ["models:/m/1"]


def test_versions_of_deleted_runs_are_listed(chain: Chain):
    client = chain.tracking.client()
    version = client.create_model_version("m", "file:///nowhere", run_id="0" * 32, tags=chain.features.lineage)
    client.delete_run(chain.run_id)
    unused = chain.tracking.create_run("unused", run_tags(chain.features))
    client.delete_run(unused)
    lineage = chain.trace(chain.features.uri)
    assert [node.kind for node in lineage.nodes] == [*KINDS, "run", "version"]
    runs = [finding for kind, finding in found(lineage, "broken") if kind == "run"]
    assert runs[0].startswith("it is deleted; `mlflow runs restore --run-id")
    assert runs[1] == "the tracking store has no such run"
    assert lineage.nodes[-1].name == f"models:/m/{version.version}"


@pytest.mark.parametrize("deleted", [RUN_TAGS[:1], RUN_TAGS[-1:], RUN_TAGS], ids=str)
def test_versions_of_a_run_without_tags_are_listed(chain: Chain, deleted: list[str]):
    for name in deleted:
        chain.tracking.client().delete_tag(chain.run_id, name)
    lineage = chain.trace(chain.features.uri)
    assert [node.kind for node in lineage.nodes] == KINDS
    assert found(lineage, "broken") == [("run", f"it has no tag {', '.join(deleted)}")]


def test_champions_are_named(chain: Chain):
    client = chain.tracking.client()
    version = client.create_model_version("m", "file:///nowhere", run_id=chain.run_id, tags=chain.features.lineage)
    set_champions(chain.tracking, "m", [1, int(version.version)])
    *_, former, champion = chain.trace(chain.features.uri).nodes
    assert former.checks[0].finding == "it was champion, and may be again"
    assert champion.checks[0].finding == "it is the champion"


def test_all_pages_of_runs_are_read(chain: Chain, monkeypatch: pytest.MonkeyPatch):
    """A page has 1,000 runs; here it has one."""
    others = {chain.tracking.create_run("again", run_tags(chain.features)) for _ in range(2)}
    monkeypatch.setattr(MlflowClient, "search_runs", partialmethod(MlflowClient.search_runs, max_results=1))
    runs = names(chain, chain.features.uri, "run")
    for run_id in others:
        chain.tracking.client().delete_run(run_id)
    assert sorted(runs) == sorted(f"runs:/{run_id}" for run_id in {chain.run_id, *others})


def test_a_feature_set_is_traced_without_a_tracking_store(tmp_path: Path):
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path))
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    unchecked = found(trace(features.uri, TrackingConfig(uri=uri)), "not checked")
    assert unchecked[-1] == ("run", f"tracking.uri {uri} does not exist")
    assert not (tmp_path / "new").exists()
