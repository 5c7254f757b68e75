"""Tests of folders of images."""

from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.datasets.importer import DatasetFiles, import_dataset
from pipelines.datasets.locate_photos import is_missing, version_tokens
from pipelines.datasets.photo_sources import photo_uri, read_photo
from tests.support.servers import S3Server

NAMES = ["a.jpg", "b/c/写真.webp", "b/ü 50%.PNG", "d.tif", "e.avif", "f.JFIF", "g.jpe"]
OTHERS = ["notes.txt", "b/Thumbs.db", "b/._a.jpg", "a.jpg.json"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "my images"
    for name in [*NAMES, *OTHERS]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_all_images_below_a_folder_are_in_the_gallery(images: Path, capsys: pytest.CaptureFixture[str]):
    manifest = import_dataset(f"{images}/")
    photos = list(manifest.photos())
    assert [(photo.source, photo.split, photo.captions) for photo in photos] == [(n, "gallery", ()) for n in NAMES]
    assert [read_photo(photo_uri(manifest.root, photo.source)).decode() for photo in photos] == NAMES
    assert (manifest.root, manifest.name.partition("-")[0]) == (str(images), "my_images")
    assert f"3 files in {images} are left out (first a.jpg.json): images end in .jpg" in capsys.readouterr().err


def test_version_tokens_are_those_of_the_files(images: Path):
    """Links have those of their targets. A link to nothing is a photo that is missing."""
    (images / "link.jpg").symlink_to(images / "a.jpg")
    (images / "z.jpg").symlink_to("nowhere")
    *photos, missing = import_dataset(images).photos()
    uris = [f"{images}/{photo.source}" for photo in photos]
    assert [photo.version_token for photo in photos] == list(version_tokens(uris).values())
    assert len(uris) == len(NAMES) + 1
    assert (missing.source, is_missing(missing, str(images))) == ("z.jpg", True)


def test_a_folder_may_be_another_split(images: Path):
    manifest = import_dataset(DatasetFiles((f"test={images}",), "folder"), images)
    assert {photo.split for photo in manifest.photos()} == {"test"}


def test_a_folder_of_a_bucket_is_listed_once_and_read(images: Path, s3_server: S3Server, listings: list[str]):
    root = f"s3://{s3_server.bucket}/{images.parent.name}"
    for name in [*NAMES, "notes.txt"]:
        open_store(root).put_if_absent(name, name.encode())
    manifest = import_dataset(f"{root}/")
    assert listings == [f"{images.parent.name}/"]
    assert (manifest.root, manifest.name) == (root, images.parent.name)
    photos = list(manifest.photos())
    assert {photo.source: photo.version_token for photo in photos} == {
        name: info.version_token for name, info in open_store(root).objects().items() if name in NAMES
    }
    assert [photo.source for photo in photos] == NAMES
    assert [read_photo(photo_uri(root, photo.source)).decode() for photo in photos] == NAMES


def test_a_whole_bucket_is_a_folder(images: Path, s3_server: S3Server):
    root = f"s3://{s3_server.bucket}"
    open_store(root).put_if_absent(f"{images.parent.name}/whole.jpg", b"x")
    manifest = import_dataset(DatasetFiles((root,), "folder"))
    assert (manifest.root, manifest.name) == (root, s3_server.bucket)
    assert f"{images.parent.name}/whole.jpg" in {photo.source for photo in manifest.photos()}


def test_an_empty_folder_and_another_photo_root_are_refused(images: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"/b/none: no such file; check the path"):
        import_dataset(images / "b" / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"/empty: no image in this folder \(files .*\.jpg.*; give the folder that"):
        import_dataset(tmp_path / "empty")
    with pytest.raises(UserError, match=r"the photos are in .*/my images, not in .*/empty; omit --photos, or give a"):
        import_dataset(images, tmp_path / "empty")


def test_folders_of_splits_have_a_common_root(images: Path, tmp_path: Path):
    other = tmp_path / "other" / "a.jpg"
    other.parent.mkdir()
    other.write_text("other")
    manifest = import_dataset(DatasetFiles((f"train={images}", f"val={other.parent}")))
    found = {
        photo.source: (photo.split, read_photo(photo_uri(manifest.root, photo.source))) for photo in manifest.photos()
    }
    assert found == {"other/a.jpg": ("val", b"other")} | {f"my images/{n}": ("train", n.encode()) for n in NAMES}
