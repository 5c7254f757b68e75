"""Manifests as objects of a feature set."""

from pathlib import Path

from infra.storage.folder import FolderStore
from pipelines.datasets.names import dataset_name
from pipelines.features.layout import feature_set_name
from pipelines.features.manifests import read_manifest, write_manifest
from tests.support.feature_sets import manifest


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
