"""Names of the objects of a search index: each has one kind, and a URI may name a snapshot."""

from pathlib import Path

import pytest

from pipelines.features.layout import resolve_uri, snapshot_name
from pipelines.search.index_build import IndexBuild
from pipelines.search.layout import (
    FILES,
    KINDS,
    PARTITION_NAME,
    centroids_name,
    file_name,
    lists_name,
    partition_receipt_name,
)

PARTITION, DIGEST = "photos-val-000012-0123abcd", "f" * 64


def kinds(name: str) -> list[str]:
    return [kind for kind, names in KINDS.items() if names.fullmatch(name)]


def test_every_object_has_one_kind():
    made = {
        partition_receipt_name(PARTITION): "receipt",
        lists_name(PARTITION, DIGEST): "lists",
        centroids_name("captions", DIGEST): "centroids",
        snapshot_name(DIGEST): "snapshot",
        **{file_name(PARTITION, file): "partition" for file in FILES},
    }
    assert {name: kinds(name) for name in made} == {name: [kind] for name, kind in made.items()}
    assert PARTITION_NAME.fullmatch(PARTITION)


def test_objects_of_a_built_index_have_a_kind(built: IndexBuild):
    names = [name for name in built.store.objects() if name != "index.json"]
    assert {name: len(kinds(name)) for name in names} == dict.fromkeys(names, 1)
    assert {*built.document.objects(), *built.document.receipts()} < set(names)


@pytest.mark.parametrize(
    "name",
    [
        "photos-val-000012-0123abcd",
        "videos-val-000012-0123abcd.items.arrow",
        "photos-dev-000012-0123abcd.items.arrow",
        "photos-val-12-0123abcd.items.arrow",
        "photos-val-000012-0123abcd.items.npy",
        f"../{PARTITION}.receipt.json",
        f"{PARTITION}.receipt.json.tmp",
        "features-val-000000-0123abcd.tar",
        "snapshot-0123.json",
    ],
)
def test_other_names_have_no_kind(name: str):
    assert kinds(name) == []


def test_a_uri_names_the_current_index_or_a_snapshot(tmp_path: Path):
    store, name = resolve_uri(f"{tmp_path}/x")
    assert (store.uri, name) == (f"{tmp_path}/x", "index.json")
    store, name = resolve_uri(f"{tmp_path}/x@0123456789ab")
    assert (store.uri, name) == (f"{tmp_path}/x", "snapshot-0123456789ab.json")
    assert resolve_uri(f"{tmp_path}/user@host")[1] == "index.json"
