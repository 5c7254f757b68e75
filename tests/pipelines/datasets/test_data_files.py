"""The files of a data set: linked folders belong to it, and nothing is left out in silence."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from infra.errors import StorageError
from infra.storage.open import open_store
from pipelines.datasets.data_files import data_files
from tests.support.bad_stores import closed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "photos/a/1.jpg",
        "photos/.hidden.jpg",
        "photos/.thumbnails/1.jpg",
        "elsewhere/b/2.jpg",
        "elsewhere/3.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path / "photos"


def names(folder: Path) -> list[str]:
    return sorted(name for name, _ in data_files(str(folder)))


def test_linked_folders_and_files_are_listed_once(folder: Path):
    """A folder that is linked twice, from inside itself or from above has its photos once, under the first name."""
    links = {"c": "../elsewhere", "d": "../elsewhere/b", "a/up": "..", "e": "a", "../elsewhere/b/up": "../../photos"}
    for link, target in links.items():
        (folder / link).symlink_to(target)
    (folder / "4.jpg").symlink_to("../elsewhere/3.jpg")
    os.mkfifo(folder / "pipe.jpg")
    assert names(folder) == ["4.jpg", "a/1.jpg", "c/3.jpg", "c/b/2.jpg"]
    assert dict(data_files(str(folder)))["4.jpg"] == open_store(str(folder)).objects()["4.jpg"].version_token
    assert [name for name, _ in data_files(str(folder), "c/b")] == ["c/b/2.jpg"]


def test_links_to_nothing_have_no_version_token(folder: Path):
    (folder / "gone.jpg").symlink_to("nowhere")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    assert {name: bool(token) for name, token in data_files(str(folder))} == {
        "a/1.jpg": True,
        "gone.jpg": False,
        "loop.jpg": False,
    }


def test_folders_that_may_not_be_read_are_counted(capsys: pytest.CaptureFixture[str]):
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        root.chmod(0o755)
        for name in ("a", "b"):
            (root / name).mkdir()
            (root / name / "1.jpg").touch()
        with closed(root / "a"):
            assert names(root) == ["b/1.jpg"]
        note = f"1 folders are left out, since this user may not read them (first {root}/a); grant read permission"
        assert note in capsys.readouterr().err
        with closed(root), pytest.raises(StorageError, match=f"^{root}: cannot be accessed"):
            names(root)
        assert names(root) == ["a/1.jpg", "b/1.jpg"]
        assert capsys.readouterr().err == ""
        assert names(root / "none" / "below") == []
