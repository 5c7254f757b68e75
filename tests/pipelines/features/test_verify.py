"""Verification: an untouched feature set is intact, and every kind of corruption is found and named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import StorageError, UserError
from infra.storage.folder import FolderStore
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import index_digest
from pipelines.features.layout import manifest_name, snapshot_name
from pipelines.features.shards import build_tar
from pipelines.features.verify import Verification, verify
from tests.support.feature_sets import (
    DETECTOR,
    FEATURE_DIM,
    manifest,
    manifest_bytes,
    receipt_of,
    sample,
    tar_of,
    write_set,
)

NAN = float("nan")


def check(uri: str) -> Verification:
    return verify(uri, lambda done, total: None)


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(change(document) or document))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path, manifest(tmp_path))


def test_an_untouched_feature_set_is_intact(features: FeatureSet):
    steps: list[tuple[int, int]] = []
    found = verify(features.uri, lambda done, total: steps.append((done, total)))
    assert found.errors == ()
    assert (found.shards, found.photos, found.rejected) == (4, 5, 1)
    assert found.size == sum(shard.size for shard in features.index.shards)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert check(features.pinned_uri).errors == ()


def test_a_feature_set_without_boxes_classes_and_sizes_is_intact(tmp_path: Path):
    bare = {
        "boxes_R4": np.empty((0, 4), np.float32),
        "meta": {"width": None, "height": None, "sha256": None, "classes": [], "confidences": []},
    }
    detector = replace(DETECTOR, class_names={})
    features = write_set(tmp_path, manifest(tmp_path), {f"p{i}": bare for i in range(6)}, detector)
    assert check(features.uri).errors == ()


def test_snapshots_stay_intact(tmp_path: Path, features: FeatureSet):
    old = features.pinned_uri
    write_set(tmp_path, manifest(tmp_path, said="an edited photo of"))
    assert check(features.uri).errors == ()
    assert check(old).errors == ()


REGIONS_F16 = np.ones((3, FEATURE_DIM), np.float16)
BOX = np.array([[0, 0, 5, 5]] * 3, np.float32)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"regions_RF": REGIONS_F16 * NAN}, "p0.regions.npy has values that are not finite"),
        ({"regions_RF": REGIONS_F16 * np.inf}, "p0.regions.npy has values that are not finite"),
        ({"regions_RF": REGIONS_F16.astype(np.float32)}, "p0.regions.npy is float32 (3, 8), expected float16 (R, 8)"),
        ({"regions_RF": REGIONS_F16[:, :7]}, "p0.regions.npy has 7 numbers per region, the index has 8"),
        ({"regions_RF": REGIONS_F16[:2]}, "p0.regions.npy has 2 regions, the index has 3 to 3"),
        ({"boxes_R4": BOX.astype(np.float64)}, "p0.boxes.npy is float64 (3, 4), expected float32 (R, 4)"),
        ({"boxes_R4": BOX[:, :3]}, "p0.boxes.npy is float32 (3, 3), expected float32 (R, 4)"),
        ({"boxes_R4": BOX[:2]}, "p0.boxes.npy has 2 boxes for 3 regions"),
        ({"boxes_R4": BOX * NAN}, "p0.boxes.npy has values that are not finite"),
        ({"boxes_R4": BOX[:, ::-1].copy()}, "p0.boxes.npy has boxes without area"),
        ({"boxes_R4": BOX - 1}, "p0.boxes.npy has boxes that reach outside the photo of 60 x 40"),
        ({"boxes_R4": BOX * 12}, "p0.boxes.npy has boxes that reach outside the photo of 60 x 40"),
        ({"meta": {"captions": None}}, "p0.json has no list of captions"),
        ({"meta": {"captions": []}}, "p0.json has other captions than the manifest"),
        ({"meta": {"captions": ["a photo of 0", " "]}}, "p0.json has no list of captions, or one of them is empty"),
        ({"meta": {"captions": ["another"]}}, "p0.json has other captions than the manifest"),
        ({"meta": {"source": "other.png"}}, "p0 has the source 'other.png', the manifest has 'p0.png'"),
        ({"meta": {"width": 0}}, "p0.json has a width of 0"),
        ({"meta": {"classes": [1, 2]}}, "p0.json has 2 classes for 3 regions"),
        ({"meta": {"classes": [1, 2, 99]}}, "p0.json has classes that the index does not list, first 99"),
        ({"meta": {"classes": [1, 2, 1.5]}}, "p0.json has no list of integers `classes`"),
        ({"meta": {"classes": None}}, "p0.json has no list of integers `classes`"),
        ({"meta": {"confidences": [0.5, 0.5]}}, "p0.json has 2 confidences for 3 regions"),
        ({"meta": {"confidences": [0.5, 0.5, 1.5]}}, "p0.json has confidences outside [0, 1]"),
        ({"meta": {"confidences": [0.5, 0.5, NAN]}}, "p0.json has confidences outside [0, 1]"),
        ({"meta": {"confidences": ["high"] * 3}}, "p0.json has no list of numbers `confidences`"),
        ({"meta": {"attributes": [1]}}, "p0.json has 1 attributes for 3 regions"),
        ({"meta": {"attribute_confidences": [2, 0, 0]}}, "p0.json has attribute_confidences outside [0, 1]"),
    ],
)
def test_an_invalid_photo_is_named(tmp_path: Path, change: dict[str, Any], error: str):
    """The shard is written with these values, so checksums agree and only the content is wrong."""
    features = write_set(tmp_path, manifest(tmp_path), {"p0": change})
    errors = check(features.uri).errors
    of_p0 = (f"{tar_of(features, 'p0').name}: p0", f"{receipt_of(features, 'p0').name}: p0")
    assert any(error in found for found in errors), errors
    assert all(found.startswith(of_p0) for found in errors), errors


def test_every_flipped_bit_of_a_tar_is_found(features: FeatureSet):
    tar = tar_of(features, "p0")
    size = tar.stat().st_size
    for at in np.random.default_rng(0).integers(0, size, 40).tolist():
        flip(tar, at)
        errors = check(features.uri).errors
        assert f"{tar.name}: its content does not have the sha256 in the index" in errors
        assert all(error.startswith(tar.name) for error in errors)
        flip(tar, at)
    assert check(features.uri).errors == ()


def test_an_unreadable_member_is_named(features: FeatureSet):
    tar = tar_of(features, "p0")
    for member, name in enumerate(
        ("regions.npy is not a readable array", "boxes.npy is not a readable array", "json is not")
    ):
        at = features.receipts[0].written[0].offsets[member][0]
        flip(tar, at)
        assert any(f"p0.{name}" in error for error in check(features.uri).errors)
        flip(tar, at)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


CORRUPTIONS: list[tuple[Callable[[FeatureSet], object], str]] = [
    (lambda f: tar_of(f, "p0").unlink(), "features-train-000000-*.tar: does not exist"),
    (lambda f: receipt_of(f, "p0").unlink(), "features-train-000000-*.receipt.json: does not exist"),
    (lambda f: receipt_of(f, "p0").write_text("{"), "features-train-000000-*.receipt.json: is not a valid receipt"),
    (lambda f: receipt_of(f, "p0").write_text("3"), "features-train-000000-*.receipt.json: is not a valid receipt"),
    (lambda f: cut(tar_of(f, "p0")), "features-train-000000-*.tar: has 9540 bytes, the index has 10240"),
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
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"][0].update(key="p1")),
        "features-train-000000-*.tar: p1 is also in features-train-000000-",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"][0].update(key="p1")),
        "manifest-*.parquet: 1 of its photos are neither written nor rejected, first p0",
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
    (
        lambda f: edit_json(receipt_of(f, "p3"), lambda d: d["rejected"][0].update(reason="other")),
        "quarantine.parquet: differs from the receipts",
    ),
    (lambda f: (Path(f.uri) / "sizes.json").write_text("{}"), "sizes.json: differs from the index"),
    (lambda f: (Path(f.uri) / "sizes.json").write_text("{"), "sizes.json: differs from the index"),
    (lambda f: (Path(f.uri) / "sizes.json").unlink(), "sizes.json: does not exist"),
    (lambda f: (Path(f.uri) / "quarantine.parquet").unlink(), "quarantine.parquet: does not exist"),
    (lambda f: cut(Path(f.uri) / "quarantine.parquet"), "quarantine.parquet: differs from the receipts"),
    (lambda f: manifest_of(f).unlink(), "manifest-*.parquet: does not exist"),
    (lambda f: cut(manifest_of(f)), "manifest-*.parquet: not a readable manifest"),
    (
        lambda f: manifest_of(f).write_bytes(manifest_bytes(manifest(Path("/"), said="edited"))),
        "manifest-*.parquet: its content does not have the digest in the index",
    ),
    (
        lambda f: edit_json(Path(f.uri) / "index.json", lambda d: d | {"fingerprint": "other"}),
        "index.json: its content does not have the digest",
    ),
    (lambda f: snapshot_of(f).unlink(), "snapshot-*.json: does not exist"),
    (lambda f: snapshot_of(f).write_text("{}"), "snapshot-*.json: is not a valid index"),
    (
        lambda f: edit_json(snapshot_of(f), lambda d: d | {"photo_root": "x"}),
        "snapshot-*.json: differs from index.json",
    ),
]


def manifest_of(features: FeatureSet) -> Path:
    return Path(features.uri) / manifest_name(features.index.manifest)


def snapshot_of(features: FeatureSet) -> Path:
    return Path(features.uri) / snapshot_name(features.index.feature_set)


@pytest.mark.parametrize(("corrupt", "error"), CORRUPTIONS, ids=[error for _, error in CORRUPTIONS])
def test_corruption_is_found_and_named(features: FeatureSet, corrupt: Callable[[FeatureSet], object], error: str):
    corrupt(features)
    errors = check(features.uri).errors
    parts = error.split("*")
    assert any(found.startswith(parts[0]) and all(part in found for part in parts) for found in errors), errors


def test_all_errors_are_found_not_only_the_first(features: FeatureSet):
    tar_of(features, "p0").unlink()
    flip(tar_of(features, "p5"), features.receipts[3].written[0].offsets[0][0])
    (Path(features.uri) / "sizes.json").unlink()
    objects = [error.split(":")[0] for error in check(features.uri).errors]
    assert set(objects) == {tar_of(features, "p0").name, tar_of(features, "p5").name, "sizes.json"}


def test_a_shard_in_the_wrong_split_is_found(tmp_path: Path):
    """The index has a valid digest, but its shard is in another split than the manifest's photo."""
    features = write_set(tmp_path, manifest(tmp_path))
    folder = Path(features.uri)
    index = json.loads(features.index.to_json())
    old = index["shards"][2]["name"]
    new = old.replace("val", "train")
    for ending in (".tar", ".receipt.json"):
        (folder / f"{old}{ending}").rename(folder / f"{new}{ending}")
    edit_json(folder / f"{new}.receipt.json", lambda d: d | {"shard": new})
    index["shards"][2]["name"] = new
    index["feature_set"] = index_digest(index)
    for name in ("index.json", f"snapshot-{index['feature_set'][:12]}.json"):
        (folder / name).write_text(json.dumps(index))
    assert f"{new}.receipt.json: p4 belongs to split val in the manifest" in check(features.uri).errors


def test_a_quarantine_report_with_other_rows_is_an_error(features: FeatureSet):
    path = Path(features.uri) / "quarantine.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)
    (error,) = check(features.uri).errors
    assert error.startswith("quarantine.parquet: differs from the receipts")


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"format": "shan-features/3"}'])
def test_an_invalid_or_missing_index_is_a_one_line_error(features: FeatureSet, text: str):
    (Path(features.uri) / "index.json").write_text(text)
    with pytest.raises(UserError, match=r"index\.json is not a valid feature-set index"):
        check(features.uri)
    (Path(features.uri) / "index.json").unlink()
    with pytest.raises(UserError, match=r"no index\.json here; run `python -m jobs\.extract` to its end"):
        check(features.uri)


@pytest.mark.parametrize("error", [StorageError("s3://b: away"), UserError("s3://b: the credentials have expired")])
@pytest.mark.parametrize(
    "part", ["index.json", "snapshot-", "manifest-", ".receipt.json", ".tar", "sizes.json", "quarantine"]
)
def test_a_store_that_fails_is_not_an_integrity_error(
    features: FeatureSet, monkeypatch: pytest.MonkeyPatch, error: Exception, part: str
):
    read = FolderStore.read

    def fails(store: FolderStore, name: str, *extent: Any) -> bytes:
        if part in name:
            raise error
        return read(store, name, *extent)

    monkeypatch.setattr(FolderStore, "read", fails)
    with pytest.raises(type(error), match=str(error)):
        check(features.uri)
