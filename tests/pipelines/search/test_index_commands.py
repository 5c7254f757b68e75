"""The work of `jobs.index`: which model is loaded, and results as text."""

from dataclasses import replace
from pathlib import Path

import pytest

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.registry import set_champions
from infra.tracking import Tracking, TrackingConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.features.orphans import OrphanedObject
from pipelines.models.load import LoadedModel
from pipelines.search.config import IndexConfig
from pipelines.search.index_build import IndexBuild
from pipelines.search.index_commands import (
    build_text,
    clean_up_index,
    index_features,
    index_orphans_text,
    load_version,
    verification_text,
)
from pipelines.search.index_format import CandidateSearch, Gallery, IndexDocument
from pipelines.search.index_orphans import IndexOrphans
from pipelines.search.index_verify import IndexVerification
from pipelines.search.partition import StoredFile
from tests.support.indexes import network
from tests.support.small_models import register_model


def test_an_alias_is_replaced_by_its_version(tracking: Tracking, indexed_features: FeatureSet, tmp_path: Path):
    """An index records the version: the alias may move."""
    register_model(tracking, "m", network(indexed_features), indexed_features, tmp_path / "bundle")
    set_champions(tracking, "m", [1])
    config = TrackingConfig(uri=tracking.uri)
    by_alias, by_version = load_version("models:/m@champion", config), load_version("models:/m/1", config)
    assert by_alias.uri == by_version.uri == "models:/m/1"
    assert by_alias.digest == by_version.digest


def test_a_checkpoint_needs_no_tracking_store(indexed_model: LoadedModel, tmp_path: Path):
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/none.db")
    assert load_version(indexed_model.uri, config).digest == indexed_model.digest
    with pytest.raises(UserError, match=r"none\.db does not exist"):
        load_version("models:/m/1", config)


def test_a_finished_index_is_only_described(
    built: IndexBuild, indexed_model: LoadedModel, indexed_features: FeatureSet
):
    text = index_features(
        indexed_model.uri,
        [indexed_features.uri],
        IndexConfig(output=str(Path(built.store.uri).parent), photos_per_partition=8),
        TrackingConfig(),
        ClusterConfig(),
    )
    assert text == build_text(replace(built, partitions_written=0))


def test_a_build_lists_its_galleries(built: IndexBuild):
    partitions = len(built.document.receipts())
    lines = build_text(replace(built, partitions_written=3)).splitlines()
    assert lines[:2] == [built.uri, f"  model {built.document.model.uri}, 1 feature sets"]
    assert lines[2].startswith("  59 photos in ")
    assert lines[3].startswith("  118 captions in ")
    assert all(line.endswith("; candidate search flat") for line in lines[2:4])
    assert lines[4] == f"  3 partitions written now, {partitions - 3} reused"


def test_lists_of_a_query_are_stated(built: IndexBuild):
    document, file = built.document, StoredFile(1, "0" * 64)
    partitions = document.galleries["photos"].partitions
    stage = CandidateSearch("ivf", 2, "1" * 64, file, {partition.name: file for partition in partitions})
    changed = IndexDocument.build(document.model, document.features, {"photos": Gallery(partitions, stage)})
    assert (
        build_text(replace(built, document=changed))
        .splitlines()[2]
        .endswith("; candidate search ivf, 2 lists of a query")
    )


def test_a_verification_states_what_was_read():
    found = IndexVerification("/x@0", ("a: missing",), 4, {"photos": 59, "captions": 118}, 41_000, 0.5)
    assert verification_text(found).splitlines() == [
        "integrity error: a: missing",
        "/x@0: 1 integrity errors",
        "  4 partitions, 59 photos, 118 captions, 41 kB in 0.5 s",
    ]


def test_partitions_of_an_unfinished_build_need_an_option(copy: Path):
    (copy / "captions-val-000009-01234567.vectors.npy").write_bytes(b"left behind")
    receipt = next(copy.glob("photos-val-*.receipt.json"))
    unfinished = copy / receipt.name.replace("photos-val-000000", "photos-val-000099")
    unfinished.write_bytes(receipt.read_bytes())
    assert "1 objects deleted" in clean_up_index(str(copy), delete=True, unfinished=False, earlier_snapshots=False)
    assert unfinished.exists()
    assert "1 objects deleted" in clean_up_index(str(copy), delete=True, unfinished=True, earlier_snapshots=False)
    assert not unfinished.exists()


def test_what_deleting_would_lose_is_stated():
    items = (OrphanedObject("partition", "a.vectors.npy", 10),)
    assert index_orphans_text("/x", IndexOrphans(items, frozenset(["a.vectors.npy"]), 2)).splitlines()[1:] == [
        "/x: 1 x partition, 10 B",
        "1 objects belong to complete partitions of an unfinished or replaced build; only --unfinished deletes them",
        "2 objects with other names are left alone",
    ]
