"""Verification of one shard against its receipt, the index and the manifest: every kind of corruption is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.features.feature_set import FeatureSet
from pipelines.features.planned_photos import PlannedPhotos
from pipelines.features.shards import build_tar
from pipelines.features.verify_sample import Schema
from pipelines.features.verify_shard import ShardReport, verify_shard
from tests.support.bad_stores import UNREADABLE
from tests.support.feature_sets import manifest, receipt_of, sample, tar_of, write_set
from tests.support.mutations import edit_json, flip_bit, truncate


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    """Photos p0 and p1 are in the first shard; p2 and the rejected p3 in the second."""
    return write_set(tmp_path, manifest(tmp_path))


def check(features: FeatureSet, number: int = 0) -> ShardReport:
    planned = PlannedPhotos(manifest(Path(features.index.photo_root).parent))
    return verify_shard(features.store, features.index.shards[number], Schema.of(features.index.detector), planned)


def test_an_intact_shard_has_no_errors(features: FeatureSet):
    for number, shard in enumerate(features.index.shards):
        found = check(features, number)
        assert (found.errors, found.size) == ([], shard.size)
        assert found.account is not None
        assert found.account.shard == shard


def test_without_a_manifest_the_photos_are_not_compared(features: FeatureSet):
    edit_json(receipt_of(features, "p3"), lambda d: d["rejected"][0].update(key="stranger"))
    schema, shard = Schema.of(features.index.detector), features.index.shards[1]
    assert verify_shard(features.store, shard, schema, None).errors == [
        f"{shard.name}.receipt.json: its receipt_digest is {check(features, 1).account.shard.receipt_digest}, "
        f"the index has {shard.receipt_digest}"
    ]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"regions_RF": np.full((3, 8), np.nan, np.float16)}, "tar: p0.regions.npy has values that are not finite"),
        ({"meta": {"captions": []}}, "tar: p0.json has other captions than the manifest"),
        ({"meta": {"captions": ["another"]}}, "tar: p0.json has other captions than the manifest"),
        ({"meta": {"source": "other.png"}}, "json: p0 has the source 'other.png', the manifest has 'p0.png'"),
    ],
)
def test_a_photo_unlike_schema_or_manifest_is_named(tmp_path: Path, change: dict[str, Any], error: str):
    """The shard is written with these values, so checksums agree and only the content is wrong."""
    found = check(write_set(tmp_path, manifest(tmp_path), {"p0": change}))
    assert [line for line in found.errors if line.endswith(error)] == found.errors != []


def test_every_flipped_bit_of_a_tar_is_found(features: FeatureSet):
    tar = tar_of(features, "p0")
    for at in np.random.default_rng(0).integers(0, tar.stat().st_size, 40).tolist():
        flip_bit(tar, at)
        errors = check(features).errors
        assert f"{tar.name}: its content does not have the sha256 in the index" in errors
        assert all(error.startswith(tar.name) for error in errors)
        flip_bit(tar, at)
    assert check(features).errors == []


def test_an_unreadable_member_is_named(features: FeatureSet):
    tar = tar_of(features, "p0")
    for member, name in enumerate(
        ("regions.npy is not a readable array", "boxes.npy is not a readable array", "json is not")
    ):
        at = features.receipts[0].written[0].offsets[member][0]
        flip_bit(tar, at)
        assert any(f"p0.{name}" in error for error in check(features).errors)
        flip_bit(tar, at)


CORRUPTIONS: list[tuple[Callable[[FeatureSet], object], str]] = [
    (lambda f: tar_of(f, "p0").unlink(), "features-train-000000-*.tar: does not exist"),
    (lambda f: receipt_of(f, "p0").unlink(), "features-train-000000-*.receipt.json: does not exist"),
    (lambda f: receipt_of(f, "p0").write_text("{"), "features-train-000000-*.receipt.json: is not a valid receipt"),
    (lambda f: receipt_of(f, "p0").write_text("3"), "features-train-000000-*.receipt.json: is not a valid receipt"),
    (lambda f: truncate(tar_of(f, "p0")), "features-train-000000-*.tar: has 9540 bytes, the index has 10240"),
    (lambda f: tar_of(f, "p0").write_bytes(b""), "features-train-000000-*.tar: is not a readable tar"),
    (
        lambda f: tar_of(f, "p0").write_bytes(build_tar([sample(next(manifest(Path("/")).photos()), seed=1)])),
        "features-train-000000-*.tar: has 3 members, the receipt has 6",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d | {"sha256": "0" * 64}),
        "features-train-000000-*.receipt.json: its sha256 is 000",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"].__setitem__(1, d["written"][0])),
        "features-train-000000-*.receipt.json: its receipt_digest is *, the index has *",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d | {"size": 1}),
        "features-train-000000-*.receipt.json: its size is 1, the index has 10240",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d | {"shard": "features-val-000000-01234567"}),
        "features-train-000000-*.receipt.json: its name is features-val-000000-01234567",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"][0]["offsets"][0].__setitem__(0, 1)),
        "features-train-000000-*.tar: has p0.regions.npy at * with 176 bytes, the receipt has p0.regions.npy at 1",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"][0].update(key="stranger")),
        "features-train-000000-*.receipt.json: stranger is not in the manifest",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"][0].update(sha256="f")),
        "features-train-000000-*.tar: p0.json has the sha256 '0*', the receipt has 'f'",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p3"), lambda d: d | {"rejected": []}),
        "features-train-000001-*.receipt.json: its rejected is 0, the index has 1",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p3"), lambda d: d["rejected"][0].update(reason="")),
        "features-train-000001-*.receipt.json: p3 is rejected without a reason",
    ),
]


@pytest.mark.parametrize(("corrupt", "error"), CORRUPTIONS, ids=[error for _, error in CORRUPTIONS])
def test_corruption_is_found_and_named(features: FeatureSet, corrupt: Callable[[FeatureSet], object], error: str):
    corrupt(features)
    parts = error.split("*")
    errors = check(features, number=int(parts[0].split("-")[2])).errors
    assert any(found.startswith(parts[0]) and all(part in found for part in parts) for found in errors), errors


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs /proc")
def test_a_tar_that_its_disk_cannot_read_is_an_integrity_error(features: FeatureSet):
    path = tar_of(features, "p0")
    path.unlink()
    path.symlink_to(UNREADABLE)
    assert check(features).errors == [f"{path.name}: cannot be read (Input/output error)"]
