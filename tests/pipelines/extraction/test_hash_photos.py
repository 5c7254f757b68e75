"""Hashes of photos as they are now."""

from hashlib import sha256
from pathlib import Path

import pytest

from infra.cluster import ClusterConfig
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.extraction.hash_photos import hash_photos


@pytest.mark.usefixtures("ray_session")
def test_photos_have_the_hash_of_their_bytes_or_none(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(name.encode() * 999)
    rows = [Photo(name, f"{name}.jpg", "train", ("x",)) for name in ("b", "gone", "a")]
    manifest = Manifest.build("tiny", str(tmp_path), rows)
    assert hash_photos(manifest.photos(), manifest, ClusterConfig()) == {
        "a": sha256(b"a" * 999).hexdigest(),
        "b": sha256(b"b" * 999).hexdigest(),
        "gone": "",
    }
