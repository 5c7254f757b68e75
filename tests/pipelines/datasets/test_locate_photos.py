"""Which photos exist, under which spelling, and the version tokens by which a change is detected."""

import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from infra.errors import StorageError, UserError
from infra.storage.open import open_store
from pipelines.datasets import listing
from pipelines.datasets import locate_photos as locate
from pipelines.datasets.locate_photos import is_missing, locate_photos, version_tokens
from pipelines.datasets.manifest import Photo
from pipelines.datasets.photo_sources import photo_uri, read_photo
from tests.support.bad_stores import closed
from tests.support.servers import S3Server


def test_version_tokens_change_with_the_photo(tmp_path: Path, tar: Path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    uris = [str(path), f"{tmp_path}/none.jpg", str(tmp_path), f"tar://a.jpg::{tar}", "\0"]
    before = version_tokens(uris)
    assert set(before) == {str(path), f"tar://a.jpg::{tar}"}
    path.write_bytes(b"three")
    assert version_tokens(uris)[str(path)] != before[str(path)]


def test_a_manifest_may_combine_a_tar_root_and_uris(tmp_path: Path, tar: Path, server: str):
    rows = [Photo("a", "a.jpg", "train", ("x",)), Photo("w", f"{server}/a.jpg", "val", ("y",))]
    manifest = locate_photos("mixed", tar, rows)
    assert [read_photo(photo_uri(manifest.root, row.source)) for row in manifest.photos()] == [
        b"a" * 3000,
        b"bytes of a",
    ]
    with pytest.raises(UserError, match="no such photo folder"):
        locate_photos("mixed", tmp_path / "none", rows)


def test_photos_that_do_not_exist_are_known(tmp_path: Path, s3_server: S3Server):
    """Web servers are not queried."""
    names = ["gone.jpg", "here.jpg", "http://127.0.0.1:9/w.jpg", f"file://{tmp_path}/gone2.jpg"]
    rows = [Photo(str(n), name, "train", ()) for n, name in enumerate(names)]
    (tmp_path / "here.jpg").write_bytes(b"x")
    root = f"s3://{s3_server.bucket}/{tmp_path.name}"
    open_store(root).put_if_absent("here.jpg", b"x")
    for place in (str(tmp_path), root):
        manifest = locate_photos("some", place, rows)
        assert [row.source for row in manifest.photos()] == names
        assert [row.source for row in manifest.photos() if is_missing(row, place)] == [names[0], names[3]]


NAMES = [("bücher/é.jpg", "NFC", "NFD"), ("bücher/é.jpg", "NFD", "NFC"), ("a.JPG", "", ""), ("a.jpg", "", "")]


def listed_and_stored(name: str, listed: str, stored: str) -> tuple[str, str]:
    """Returns a name in two Unicode forms, or, without forms, with another case of its ending."""
    if listed:
        return unicodedata.normalize(listed, name), unicodedata.normalize(stored, name)
    return name, name.swapcase().replace("A.", "a.")


@pytest.mark.parametrize(("name", "listed", "stored"), NAMES)
def test_photos_are_found_under_another_spelling(tmp_path: Path, name: str, listed: str, stored: str):
    source, path = listed_and_stored(name, listed, stored)
    assert source != path
    photo = tmp_path / "photos" / path
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"x")
    manifest = locate_photos("spelled", tmp_path / "photos", [Photo("a", source, "train", ("x",))])
    (row,) = manifest.photos()
    assert (row.key, row.source) == ("a", path)
    assert row.version_token
    assert read_photo(photo_uri(manifest.root, row.source)) == b"x"
    with tarfile.open(tmp_path / "photos.TAR", "w") as opened:
        opened.add(photo, path)
    manifest = locate_photos("spelled", tmp_path / "photos.TAR", [Photo("a", source, "train", ("x",))])
    assert [read_photo(photo_uri(manifest.root, row.source)) for row in manifest.photos()] == [b"x"]


@pytest.mark.parametrize(
    ("first", "other"),
    [
        ("a.jpg", "./a.jpg"),
        ("x/a.jpg", "x//a.jpg"),
        ("x/a.jpg", "x/./a.jpg"),
        ("a.jpg", "a.JPG"),
        (unicodedata.normalize("NFD", "é.jpg"), unicodedata.normalize("NFC", "é.jpg")),
        ("a.jpg", "{root}/a.jpg"),
    ],
)
def test_two_photos_of_one_file_are_refused(tmp_path: Path, first: str, other: str):
    """One of them may be in `train` and the other in `test`."""
    (tmp_path / "x").mkdir()
    for name in ("a.jpg", "x/a.jpg", unicodedata.normalize("NFD", "é.jpg")):
        (tmp_path / name).write_bytes(b"x")
    other = other.format(root=tmp_path.as_uri())
    rows = [Photo("a", first, "train", ("x",)), Photo("b", other, "test", ())]
    for photos in (rows, rows[::-1]):
        with pytest.raises(UserError, match=r"\(key [ab], split t.* are the same file; write its path in one way"):
            locate_photos("twice", tmp_path, photos)
    assert locate_photos("once", tmp_path, [rows[1]]).table.num_rows == 1


def test_the_listed_spelling_comes_first(tmp_path: Path):
    for name in ("a.jpg", "a.JPG"):
        (tmp_path / name).write_text(name)
    rows = [Photo("a", "a.JPG", "train", ("x",)), Photo("b", "a.jpg", "train", ("x",))]
    assert [row.source for row in locate_photos("two", tmp_path, rows).photos()] == ["a.JPG", "a.jpg"]


def test_a_photo_folder_is_found_in_another_unicode_form(tmp_path: Path):
    (tmp_path / unicodedata.normalize("NFD", "büro")).mkdir()
    (tmp_path / unicodedata.normalize("NFD", "büro") / "a.jpg").write_bytes(b"x")
    root = tmp_path / unicodedata.normalize("NFC", "büro")
    assert locate_photos("form", root, [Photo("a", "a.jpg", "train", ("x",))]).table.num_rows == 1


def archives(folder: Path) -> dict[str, str]:
    """Writes a photo in archives, and files that are none. Returns their names and the reasons why they are refused."""
    (folder / "a.jpg").write_bytes(b"x")
    for name, mode in (("p.tar.gz", "w:gz"), ("p.tgz", "w:gz"), ("p.tar.xz", "w:xz"), ("gzipped.tar", "w:gz")):
        with tarfile.open(folder / name, mode) as opened:
            opened.add(folder / "a.jpg", "a.jpg")
    with tarfile.open(folder / "uncompressed.archive", "w") as opened:
        opened.add(folder / "a.jpg", "a.jpg")
    with zipfile.ZipFile(folder / "p.ZIP", "w") as zipped:
        zipped.write(folder / "a.jpg", "a.jpg")
    (folder / "text.tar").write_text("no tar")
    (folder / "folder.tar").mkdir()
    neither = "is neither a folder nor an uncompressed .tar; unpack it"
    names = ["p.tar.gz", "p.tgz", "p.tar.xz", "gzipped.tar", "p.ZIP", "text.tar", "folder.tar", "a.jpg"]
    return dict.fromkeys([*names, "uncompressed.archive"], neither) | {"none.tar": "no such photo folder"}


def test_other_photo_folders_are_refused_with_the_reason(tmp_path: Path):
    for name, message in archives(tmp_path).items():
        with pytest.raises(UserError, match=rf"{name}:? {message}"):
            locate_photos("archive", tmp_path / name, [Photo("a", "a.jpg", "train", ("x",))])
    for uri, message in (
        ("gs://bucket/a.jpg", "gs:// is not supported; give a path, https:// or s3://bucket/key"),
        ("s3://bucket", "names no object; write s3://bucket/key"),
        ("s3://", "names no object"),
    ):
        with pytest.raises(UserError, match=f"^photo {uri}:? {message}"):
            locate_photos("remote", tmp_path, [Photo("a", uri, "train", ("x",))])
    for uri in ("s3://bucket/photos.zip", "s3://bucket/photos.tar.gz"):
        with pytest.raises(UserError, match=f"photo folder {uri} is neither"):
            locate_photos("archive", uri, [Photo("a", "a.jpg", "train", ("x",))])


def test_photos_that_may_not_be_looked_at_are_not_missing(tmp_path: Path, tar: Path):
    (tmp_path / "closed").mkdir()
    photo = tmp_path / "closed" / "a.jpg"
    for uri in (str(photo), f"tar://a.jpg::{photo}"):
        with closed(photo.parent), pytest.raises(StorageError, match=f"^{photo}: cannot be accessed"):
            version_tokens([uri])
    with closed(tar.parent), pytest.raises(StorageError, match=f"^{tar}: cannot be accessed"):
        locate_photos("closed", tar, [Photo("a", "a.jpg", "train", ("x",))])


def test_only_the_folders_of_the_photos_are_listed(
    s3_server: S3Server, listings: list[str], monkeypatch: pytest.MonkeyPatch
):
    """Two photos in different folders listed the whole bucket."""
    root = f"s3://{s3_server.bucket}/folders"
    names = ["a/1.jpg", "a/deep/2.jpg", "a-b/3.jpg", "c/d/4.jpg", "c/e/5.jpg", "c/f/other.jpg"]
    for name in names:
        open_store(root).put_if_absent(name, b"x")
    wanted = [f"{root}/{name}" for name in names[:-1]]
    assert set(version_tokens([*wanted, f"{root}/c/d/none.jpg"])) == set(wanted)
    assert sorted(listings) == [f"folders/{folder}/" for folder in ("a-b", "a", "c/d", "c/e")]
    listings.clear()
    monkeypatch.setattr(listing, "MOST_LISTINGS", 3)
    assert set(version_tokens(wanted)) == set(wanted)
    assert sorted(listings) == [f"folders/{folder}/" for folder in ("a-b", "a", "c")]


@pytest.mark.parametrize("chunk", [1, 100])
def test_a_bucket_is_listed_once_for_all_photos(
    s3_server: S3Server, listings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
):
    """Also if they do not exist or have other spellings, and beside photos that are elsewhere."""
    monkeypatch.setattr(locate, "_CHUNK", chunk)
    root = f"s3://{s3_server.bucket}/{tmp_path.name}"
    stored = ["a.jpg", unicodedata.normalize("NFD", "é.JPG"), "b/c.jpg"]
    for name in stored:
        open_store(root).put_if_absent(name, name.encode())
    (tmp_path / "local.jpg").write_bytes(b"x")
    elsewhere = [str(tmp_path / "local.jpg"), "http://127.0.0.1:9/w.jpg"]
    names = [
        f"file://{elsewhere[0]}",
        "a.jpg",
        unicodedata.normalize("NFC", "é.jpg"),
        "none.jpg",
        "b/c.jpg",
        elsewhere[1],
    ]
    rows = [Photo(str(n), name, "train", (f"caption {n}",)) for n, name in enumerate(names)]
    found = list(locate_photos("some", root, rows).photos())
    assert [row.source for row in found] == [names[0], "a.jpg", stored[1], "none.jpg", "b/c.jpg", names[5]]
    assert [(row.key, row.captions) for row in found] == [(row.key, row.captions) for row in rows]
    tokens = version_tokens([elsewhere[0], *(f"{root}/{name}" for name in stored)])
    assert [row.version_token for row in found] == [*list(tokens.values())[:3], "", tokens[f"{root}/b/c.jpg"], ""]
    prefixes = [f"{tmp_path.name}/"]
    assert listings == 2 * prefixes


def test_a_version_token_that_a_reader_found_is_kept(s3_server: S3Server, listings: list[str]):
    row = Photo("a", "a.jpg", "train", (), "token")
    assert list(locate_photos("kept", f"s3://{s3_server.bucket}/kept", [row]).photos()) == [row]
    assert listings == []


def test_a_tar_in_a_bucket_is_found_without_a_listing(s3_server: S3Server, listings: list[str]):
    root = f"s3://{s3_server.bucket}/tars"
    open_store(root).put_if_absent("photos.tar", b"x")
    uri = f"tar://1.jpg::{root}/photos.tar"
    assert list(version_tokens([uri, f"tar://1.jpg::{root}/none.tar"])) == [uri]
    assert listings == []
