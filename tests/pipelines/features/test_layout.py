"""Names of a feature set and of its objects."""

import re
from pathlib import Path

import pytest

from pipelines.features.layout import (
    complete_shards,
    feature_set_name,
    kind_of,
    manifest_name,
    nothing_at,
    receipt_name,
    resolve_uri,
    shard_name,
    snapshot_name,
    tar_name,
)

SHARD = "features-train-000001-0123abcd"


def test_every_setting_names_another_feature_set():
    names = [feature_set_name("m", "d-1", 2), feature_set_name("n", "d-1", 2), feature_set_name("m", "d-2", 2)]
    names.append(feature_set_name("m", "d-1", 3))
    assert len(set(names)) == 4
    assert names[0].startswith("m-d-")


def test_a_shard_name_depends_on_place_plan_and_contents():
    names = [shard_name("train", 1, "a"), shard_name("val", 1, "a"), shard_name("train", 2, "a")]
    names += [
        shard_name("train", 1, "b"),
        shard_name("train", 1, "a", {"p": "1"}),
        shard_name("train", 1, "a", {"p": "2"}),
    ]
    assert len(set(names)) == 6
    assert shard_name("train", 1, "a", {}) == names[0]
    assert all(kind_of(tar_name(name)) == "tar" for name in names)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (snapshot_name("0123456789abcdef"), "snapshot"),
        (manifest_name("0123456789abcdef"), "manifest"),
        (tar_name(SHARD), "tar"),
        (receipt_name(SHARD), "receipt"),
        ("index.json", None),
        ("snapshot-old.json", None),
        ("features-dev-000001-0123abcd.tar", None),
        ("sub/" + tar_name(SHARD), None),
    ],
)
def test_kinds_of_objects(name: str, kind: str | None):
    assert kind_of(name) == kind


def test_a_shard_is_complete_with_tar_and_receipt():
    other = SHARD.replace("train", "val")
    assert complete_shards([receipt_name(SHARD), tar_name(SHARD), tar_name(other), "notes.tar"]) == [SHARD]
    assert complete_shards([receipt_name(other)]) == []


def test_a_uri_with_a_digest_is_a_snapshot(tmp_path: Path):
    store, name = resolve_uri(str(tmp_path))
    assert (store.uri, name) == (str(tmp_path), "index.json")
    store, name = resolve_uri(f"{tmp_path}@0123456789ab")
    assert (store.uri, name) == (str(tmp_path), "snapshot-0123456789ab.json")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://b/set", "no finished feature set here; run `python -m jobs.extract` to its end, or check the URI"),
        ("s3://b/set@123", "no finished feature set here; .* check the URI, whose snapshots are URI@<12 hex>"),
        ("s3://b@c/set", "no finished feature set here; .* check the URI"),
        (
            "s3://b/set@0123456789ab",
            "no snapshot 0123456789ab here; omit '@0123456789ab' for the current state, .*",
        ),
    ],
)
def test_what_a_uri_lacks_is_named(uri: str, message: str):
    assert re.fullmatch(f"{uri}: {message}", nothing_at(uri, "no finished feature set here", "extract"))
