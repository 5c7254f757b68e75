"""Verification: an untouched feature set is intact, and corruption of any object is found and named.

`test_verify_shard.py` and `test_verify_sample.py` have the corruptions of shards.
"""

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
from pipelines.features.verify import Verification, verify
from tests.support.bad_stores import at_every_expiry
from tests.support.feature_sets import DETECTOR, manifest, manifest_bytes, receipt_of, tar_of, write_set
from tests.support.mutations import edit_json, flip_bit, truncate


def check(uri: str) -> Verification:
    return verify(uri, lambda done, total: None)


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


CORRUPTIONS: list[tuple[Callable[[FeatureSet], object], str]] = [
    (lambda f: tar_of(f, "p0").unlink(), "features-train-000000-*.tar: does not exist"),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"][0].update(key="p1")),
        "features-train-000000-*.tar: p1 is also in features-train-000000-",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p0"), lambda d: d["written"][0].update(key="p1")),
        "manifest-*.parquet: 1 of its photos are neither written nor rejected, first p0",
    ),
    (
        lambda f: edit_json(receipt_of(f, "p3"), lambda d: d["rejected"][0].update(reason="other")),
        "quarantine.parquet: differs from the receipts",
    ),
    (lambda f: (Path(f.uri) / "sizes.json").write_text("{}"), "sizes.json: differs from the index"),
    (lambda f: (Path(f.uri) / "sizes.json").write_text("{"), "sizes.json: differs from the index"),
    (lambda f: (Path(f.uri) / "sizes.json").write_text("[" * 100_000), "sizes.json: differs from the index"),
    (lambda f: (Path(f.uri) / "sizes.json").unlink(), "sizes.json: does not exist"),
    (lambda f: (Path(f.uri) / "quarantine.parquet").unlink(), "quarantine.parquet: does not exist"),
    (lambda f: truncate(Path(f.uri) / "quarantine.parquet"), "quarantine.parquet: differs from the receipts"),
    (lambda f: manifest_of(f).unlink(), "manifest-*.parquet: does not exist"),
    (lambda f: truncate(manifest_of(f)), "manifest-*.parquet: not a readable manifest"),
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
    flip_bit(tar_of(features, "p5"), features.receipts[3].written[0].offsets[0][0])
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


def test_a_token_that_expires_is_not_an_integrity_error(features: FeatureSet):
    *refused, intact = at_every_expiry(lambda: check(features.uri).errors)
    assert intact == ()
    assert len(refused) > len(features.index.shards) * 2
    assert all(isinstance(error, UserError) and "(ExpiredToken)" in str(error) for error in refused), refused


@pytest.mark.parametrize(
    "error", [StorageError("s3://b: unreachable"), UserError("s3://b: the credentials have expired")]
)
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
