"""Fixtures of the data set tests."""

import io
import tarfile
from pathlib import Path

import pytest


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    """Returns an uncompressed tar file with the photos a.jpg and deep/b.jpg and a folder."""
    path = tmp_path / "photos.tar"
    with tarfile.open(path, "w") as opened:
        for name in ("a.jpg", "deep/b.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 3000
            opened.addfile(info, io.BytesIO(name[-5:-4].encode() * 3000))
        opened.add(path.parent, "folder", recursive=False)
    return path
