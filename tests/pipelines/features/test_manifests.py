"""Manifests as objects of a feature set, and folders that belong to another data set."""

from pathlib import Path

import pytest

from infra.errors import StorageError, UserError
from infra.storage.folder import FolderStore
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.datasets.names import dataset_name
from pipelines.features.layout import feature_set_name
from pipelines.features.manifests import read_manifest, require_dataset, write_manifest
from tests.support.bad_stores import UNREADABLE
from tests.support.feature_sets import manifest, write_set


def renamed(photos: Manifest, name: str) -> Manifest:
    return Manifest.build(name, photos.root, photos.photos())


def test_a_written_manifest_is_read_by_its_digest(tmp_path: Path):
    store, photos = FolderStore(tmp_path), manifest(tmp_path)
    write_manifest(store, photos)
    assert list(read_manifest(store, photos.digest()).photos()) == list(photos.photos())


def test_different_names_have_different_folders():
    names = {
        feature_set_name(dataset_name(text), "embedded-0123", 32) for text in ("a b", "a_b", "a.b", "猫 犬", "猫_犬")
    }
    assert len(names) == 5
    assert feature_set_name(dataset_name("flickr8k"), "embedded-0123", 32).startswith("flickr8k-embedded-")


def test_a_changed_data_set_keeps_its_folder(tmp_path: Path):
    store = write_set(tmp_path, manifest(tmp_path)).store
    for changed in (
        manifest(tmp_path),
        manifest(tmp_path, 12),
        manifest(tmp_path, 3),
        manifest(tmp_path, said="edited"),
    ):
        require_dataset(store, changed)
    require_dataset(FolderStore(tmp_path / "empty"), manifest(tmp_path))
    (tmp_path / "file").write_text("")
    require_dataset(FolderStore(tmp_path / "file" / "below"), manifest(tmp_path))  # the first write reports it
    with pytest.raises(UserError, match="belongs to another data set"):  # the store does refuse some
        require_dataset(store, renamed(manifest(tmp_path), "small"))


def test_the_folder_of_another_data_set_is_refused(tmp_path: Path):
    photos = manifest(tmp_path)
    store = write_set(tmp_path, photos).store
    other = Manifest.build("tiny", photos.root, [Photo("other", "other.png", "train", ("x",))])
    for refused in (renamed(photos, "small"), other):
        with pytest.raises(
            UserError, match=rf"^{store.uri} belongs to another data set, 'tiny' with other photos; give"
        ):
            require_dataset(store, refused)


def test_an_outage_is_not_taken_for_a_lost_manifest(tmp_path: Path):
    class Failing(FolderStore):
        def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
            if name.startswith("manifest-"):
                raise StorageError(f"{self.uri}: the store does not respond")
            return super().read(name, offset, size)

    store = write_set(tmp_path, manifest(tmp_path)).store
    with pytest.raises(StorageError, match="the store does not respond"):
        require_dataset(Failing(store.root), manifest(tmp_path, said="edited"))


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs /proc")
def test_an_unreadable_manifest_is_not_taken_for_lost(tmp_path: Path):
    store = write_set(tmp_path, manifest(tmp_path)).store
    (path,) = store.root.glob("manifest-*")
    path.unlink()
    path.symlink_to(UNREADABLE)
    other = Manifest.build("tiny", str(tmp_path), [Photo("other", "other.png", "train", ("x",))])
    with pytest.raises(StorageError, match=rf"^{path}: cannot be accessed"):
        require_dataset(store, other)
    path.unlink()
    path.write_bytes(b"PAR1")
    require_dataset(store, other)


def test_a_lost_manifest_does_not_lock_the_folder(tmp_path: Path):
    photos = manifest(tmp_path)
    store = write_set(tmp_path, photos).store
    for path in store.root.glob("manifest-*"):
        path.unlink()
    require_dataset(store, manifest(tmp_path, said="edited"))
    with pytest.raises(UserError, match="belongs to another data set"):  # its name is still in the index
        require_dataset(store, renamed(photos, "small"))
    (store.root / "index.json").write_text("{")
    require_dataset(store, manifest(tmp_path, said="edited"))  # the job itself reports the corrupt index
