"""Photos by URI: local paths, file://, http:// from a local server, tar members and S3."""

import errno
from pathlib import Path

import pytest

from infra.errors import StorageError, UserError
from infra.storage import s3_client
from infra.storage.open import open_store
from pipelines.datasets import photo_sources as sources
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.locate_photos import version_tokens
from pipelines.datasets.photo_sources import photo_uri, read_photo
from tests.support.bad_stores import UNREADABLE
from tests.support.servers import S3Server, aws_environment


def reason(uri: str) -> str:
    with pytest.raises(PhotoError) as caught:
        read_photo(uri)
    return str(caught.value)


def test_a_photo_uri_is_the_source_or_below_the_root():
    assert photo_uri("/photos", "a/b.jpg") == "/photos/a/b.jpg"
    assert photo_uri("s3://bucket/photos/", "b.jpg") == "s3://bucket/photos/b.jpg"
    assert photo_uri("/photos.tar", "a/b.jpg") == "tar://a/b.jpg::/photos.tar"
    assert photo_uri("/photos", "https://host/b.jpg") == "https://host/b.jpg"


def test_a_path_below_a_file_uri_is_percent_encoded(tmp_path: Path):
    """Otherwise `%2e%2e` would leave the root, and `50%25.jpg` would name another photo."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (photos / "50%25.jpg").write_bytes(b"ours")
    (photos / "50%.jpg").write_bytes(b"another")
    assert read_photo(photo_uri(photos.as_uri(), "50%25.jpg")) == b"ours"
    assert version_tokens([photo_uri(photos.as_uri(), "50%25.jpg")])
    with pytest.raises(PhotoError):
        read_photo(photo_uri(photos.as_uri(), "%2e%2e/secret.jpg"))


def test_a_path_below_a_web_root_is_percent_encoded(server: str, tmp_path: Path):
    for name in ("a#1.jpg", "50%25.jpg", "q?x.jpg", "a b.jpg", "é.jpg"):
        (tmp_path / name).write_text(name)
        assert read_photo(photo_uri(server, name)) == name.encode()
    assert read_photo(f" {server.replace('http', 'HTTP')}/é.jpg\n") == "é.jpg".encode()


def test_local_photos_are_read_by_path_and_uri(tmp_path: Path):
    (tmp_path / "a b#1.jpg").write_bytes(b"x")
    for uri in (f"{tmp_path}/a b#1.jpg", f"file://{tmp_path}/a b#1.jpg", (tmp_path / "a b#1.jpg").as_uri()):
        assert list(version_tokens([uri])) == [uri]
        assert read_photo(uri) == b"x"
    assert reason(f"{tmp_path}/gone.jpg") == "cannot be read: No such file or directory"
    assert reason(f"{tmp_path}") == "cannot be read: Is a directory"
    assert reason(f"{tmp_path}/a b#1.jpg/c") == "cannot be read: Not a directory"


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs /proc")
def test_a_disk_that_fails_ends_the_job_and_rejects_no_photo(tmp_path: Path):
    (tmp_path / "a.jpg").symlink_to(UNREADABLE)
    with pytest.raises(StorageError, match=rf"^{tmp_path}/a\.jpg: cannot be accessed \(Input/output error\)"):
        read_photo(f"{tmp_path}/a.jpg")


def test_a_photo_without_read_permission_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def denied(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "a.jpg").touch()
    monkeypatch.setattr(Path, "open", denied)  # root may read every file
    assert reason(f"{tmp_path}/a.jpg") == "cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("ftp://host/a.jpg", "ftp:// is not supported; give a path, https:// or s3://bucket/key"),
        ("~nobody-at-all/a.jpg", "has no home folder"),
        ("tar:///photos.tar", "names no file that contains it; write tar:///photos.tar::URI"),
    ],
)
def test_a_uri_that_can_name_no_photo_is_a_rejection(uri: str, said: str):
    assert said in reason(uri)


def test_a_photo_is_downloaded(server: str):
    assert read_photo(f"{server}/a.jpg") == b"bytes of a"
    assert reason(f"{server}/none.jpg") == "HTTP status 404"
    assert version_tokens([f"{server}/a.jpg"]) == {f"{server}/a.jpg": ""}


def test_a_too_large_file_is_rejected(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "MAX_BYTES", 2**20)
    (tmp_path / "large.jpg").write_bytes(b"x" * (2**20 + 1))
    assert reason(f"{server}/large.jpg") == reason(f"{tmp_path}/large.jpg") == "larger than 1 MiB"


@pytest.mark.parametrize(
    "broken", [{"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, {"AWS_SECRET_ACCESS_KEY": "wrong"}], ids=["gone", "refused"]
)
def test_an_unavailable_store_ends_the_job_and_rejects_no_photo(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, broken: dict[str, str]
):
    """A rejection would silently drop the photo from the feature set."""
    monkeypatch.setattr(s3_client, "DEADLINE_S", 0.5)
    with aws_environment(s3_server.environment() | broken), pytest.raises((UserError, StorageError)):
        read_photo(f"s3://{s3_server.bucket}/a.jpg")


def test_photos_in_a_bucket_are_read(s3_server: S3Server):
    with pytest.raises(UserError):
        read_photo("s3://no-such-bucket/a.jpg")
    assert reason(f"s3://{s3_server.bucket}/no-such-photo.jpg").startswith("cannot be read")
    root = f"s3://{s3_server.bucket}/photos of #1"
    open_store(root).put_if_absent("deep/a b.jpg", b"a")
    assert read_photo(photo_uri(root, "deep/a b.jpg")) == b"a"
    uris = [f"{root}/deep/a b.jpg", f"{root}/deep/none.jpg"]
    assert list(version_tokens(uris)) == uris[:1]
