"""Checksums of photos that a rerun has read again."""

from pathlib import Path

import pytest

from infra.storage.folder import FolderStore
from pipelines.features.rehashed import add_rehashed, read_rehashed


def test_checksums_are_added_to_the_stored_ones(tmp_path: Path):
    store = FolderStore(tmp_path)
    add_rehashed(store, {})
    assert list(store.objects()) == []
    add_rehashed(store, {"a": ("a.jpg", "t1", "0")})
    add_rehashed(store, {"a": ("a.jpg", "t2", "1"), "b": ("b.jpg", "t1", "2")})
    assert read_rehashed(store) == {"a": ("a.jpg", "t2", "1"), "b": ("b.jpg", "t1", "2")}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b'{"a": ["x"]}', b"\xff"])
def test_what_cannot_be_read_counts_as_absent(tmp_path: Path, content: bytes):
    store = FolderStore(tmp_path)
    store.replace("rehashed-photos.json", content)
    assert read_rehashed(store) == {}
