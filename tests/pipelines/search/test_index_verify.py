"""Verification finds every object that is not as the index describes it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from infra.storage.folder import FolderStore
from pipelines.datasets.manifest import Manifest
from pipelines.features.layout import snapshot_name
from pipelines.search.gallery import HeldGallery
from pipelines.search.index_build import IndexBuild
from pipelines.search.index_format import IndexDocument, read_index_document
from pipelines.search.index_verify import verify_index
from pipelines.search.layout import partition_receipt_name
from pipelines.search.partition import StoredFile
from pipelines.search.partition_writer import stored_file
from tests.support import feature_sets
from tests.support.bad_stores import UNREADABLE, at_every_expiry
from tests.support.indexes import SMALL, build_here, contents, loaded


def verify(folder: Path) -> tuple[str, ...]:
    return verify_index(str(folder), lambda *_: None).errors


def test_an_intact_index(built: IndexBuild):
    seen = []
    found = verify_index(built.uri, lambda done, total: seen.append((done, total)))
    assert found.errors == ()
    assert found.items == {"photos": 59, "captions": 118}
    assert (found.uri, seen[-1][0]) == (built.uri, seen[-1][1])


def test_int8_captions_of_photos_without_captions_are_intact(tmp_path: Path):
    """The size of a file without vectors does not show how they are stored."""
    photos = feature_sets.manifest(tmp_path, 18).photos()
    without = [replace(photo, captions=()) if photo.split == "test" else photo for photo in photos]
    features = feature_sets.write_set(tmp_path, Manifest.build("tiny", str(tmp_path / "photos"), without))
    model = loaded(tmp_path / "model", features)
    built = build_here(model, [features], tmp_path / "indexes", replace(SMALL, vector_type="int8"))
    assert 0 in [partition.items for partition in built.document.galleries["captions"].partitions]
    assert verify_index(built.uri, lambda *_: None).errors == ()
    held = HeldGallery(built.store, "captions", built.document.galleries["captions"], None)
    for partition in held.partitions:
        partition.vectors.hold()
    assert held.total == 2 * (18 - 1 - 3)


@pytest.mark.parametrize("kind", ["vectors.npy", "pooled.npy", "boxes.npy", "items.arrow", "receipt.json"])
@pytest.mark.parametrize("change", ["flip", "cut", "delete"])
def test_a_changed_object_is_the_only_error(copy: Path, kind: str, change: str):
    path = sorted(copy.glob(f"photos-*.{kind}"))[1]
    data = path.read_bytes()
    path.unlink()
    if change != "delete":
        path.write_bytes(data[:-1] if change == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    (error,) = verify(copy)
    assert error.startswith(f"{path.name}: ")


def test_a_missing_snapshot_is_an_error(copy: Path, built: IndexBuild):
    name = snapshot_name(built.document.index)
    (copy / name).unlink()
    assert verify(copy) == (f"{name}: does not exist or differs from the index",)


def test_values_that_do_not_fit_together_are_errors(copy: Path):
    store, document = read_index_document(str(copy))
    partition = document.galleries["photos"].partitions[0]
    path = copy / f"{partition.name}.pooled.npy"
    pooled = np.load(path)
    pooled[1] = pooled[0]
    np.save(path, pooled)
    changed = replace(partition, files={**partition.files, "pooled": stored_file(store, path.name)})
    (copy / partition_receipt_name(partition.name)).write_bytes(changed.to_json())
    gallery = replace(document.galleries["photos"], partitions=(changed,))
    rebuilt = IndexDocument.build(document.model, document.features, {"photos": gallery})
    for name in ("index.json", snapshot_name(rebuilt.index)):
        (copy / name).write_bytes(rebuilt.to_json())
    assert verify(copy) == (f"{path.name}: row 1 is not the mean of its vectors",)
    assert isinstance(changed.files["pooled"], StoredFile)
    assert contents(copy)


def test_an_expired_token_is_not_an_integrity_error(copy: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FolderStore, "uri", property(lambda store: f"s3://bucket{store.root}"))  # files are not mapped
    *refused, intact = at_every_expiry(lambda: verify(copy))
    assert intact == ()
    assert len(refused) > len(list(copy.iterdir()))
    assert all(isinstance(error, UserError) and "(ExpiredToken)" in str(error) for error in refused), refused


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs /proc")
def test_objects_that_a_disk_cannot_read_are_all_reported(copy: Path, built: IndexBuild):
    paths = [min(copy.glob("photos-*.vectors.npy")), max(copy.glob("photos-*.receipt.json"))]
    paths.append(copy / snapshot_name(built.document.index))
    for path in paths:
        path.unlink()
        path.symlink_to(UNREADABLE)
    assert sorted(verify(copy)) == sorted(f"{path.name}: cannot be read (Input/output error)" for path in paths)
