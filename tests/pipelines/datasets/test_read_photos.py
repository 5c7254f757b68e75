"""Photos read several at a time, in order, from files and from web servers of which some never respond."""

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import StorageError
from infra.storage.folder import FolderStore
from pipelines.datasets import http_download
from pipelines.datasets import read_photos as module
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.http_download import SILENT_PHOTOS, DownloadLimits
from pipelines.datasets.read_photos import READERS, read_photos
from tests.support.web_server import OK, drips, sends, status, web_server
from tests.support.webdataset_tars import write_tar

LIMITS = DownloadLimits(attempts=2, deadline_s=5, silence_s=0.3, backoff_s=0.01)
ONE_S = 2 * LIMITS.silence_s
"""What a photo of a server without a response takes."""


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_download, "DownloadLimits", lambda: LIMITS)


def test_photos_and_reasons_come_in_order(tmp_path: Path):
    for number in range(20):
        if number != 7:
            (tmp_path / f"{number}.jpg").write_bytes(b"%d" % number)
    found = list(read_photos(f"{tmp_path}/{number}.jpg" for number in range(20)))
    assert isinstance(found[7], PhotoError)
    assert found[:7] + found[8:] == [b"%d" % number for number in range(20) if number != 7]


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each read of a file, which takes as long as one of a bucket."""
    read, found = FolderStore.read, list[int]()

    def slow(store: FolderStore, *arguments: object) -> bytes:
        time.sleep(0.01)
        found.append(len(data := read(store, *arguments)))  # type: ignore[arg-type]
        return data

    monkeypatch.setattr(FolderStore, "read", slow)
    return found


@pytest.mark.parametrize("rows", [4, 20, 64])
def test_a_parquet_row_group_is_read_once(tmp_path: Path, bytes_read: list[int], rows: int):
    images = [number.to_bytes(1, "big") * 10_000 for number in range(64)]
    pq.write_table(pa.table({"image": images}), tmp_path / "d.parquet", row_group_size=rows, compression="none")
    assert list(read_photos(f"parquet://image/{row}::{tmp_path}/d.parquet" for row in range(64))) == images
    assert sum(bytes_read) < 1.2 * (tmp_path / "d.parquet").stat().st_size


def test_a_tar_is_scanned_once(tmp_path: Path, bytes_read: list[int]):
    photos = [(f"{number}.jpg", b"%d" % number) for number in range(16)]
    tar = write_tar(tmp_path / "photos.tar", photos)
    found = list(read_photos(f"tar://{name}::{tar}" for name, _ in photos))
    assert found == [content for _, content in photos]
    assert sum(bytes_read) == tar.stat().st_size + sum(map(len, found))


def test_a_silent_server_takes_the_time_of_one_photo():
    with web_server(drips(b"", b"", 0.05)) as (uri, connections):
        start = time.monotonic()
        reasons = [str(error) for error in read_photos([uri] * 100)]
        assert time.monotonic() - start < 20 * ONE_S
        assert set(reasons[:SILENT_PHOTOS]) == {"no response from the web server within 0.3 s"}
        server = uri.split("/")[2]
        assert reasons[-1] == f"not downloaded: {server} gave no response for 3 other photos"
        assert len(connections) <= 2 * READERS * LIMITS.attempts


def test_a_silent_server_is_given_up_for_later_calls(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_download, "AGAIN_S", 1)
    with web_server(drips(b"", b"", 0.05)) as (uri, connections):
        first = [str(error) for error in read_photos([uri] * READERS)]
        before = len(connections)
        assert {str(error)[:15] for error in read_photos([uri] * READERS)} == {"not downloaded:"}
        assert len(connections) == before
        time.sleep(1)
        later = [str(error) for error in read_photos([uri] * READERS)]
        assert "no response from the web server within 0.3 s" in first
        assert "no response from the web server within 0.3 s" in later


def test_only_the_server_without_a_response_is_given_up():
    with web_server(drips(b"", b"", 0.05)) as (silent, _), web_server(sends(OK, b"0123456789")) as (good, _):
        found = list(read_photos([silent] * 20 + [good] * 10))
    assert str(found[19]).startswith("not downloaded: ")
    assert found[20:] == [b"0123456789"] * 10


def test_a_server_that_refuses_photos_is_asked_for_each():
    with web_server(sends(status(404))) as (uri, connections):
        assert {str(error) for error in read_photos([uri] * 10)} == {"HTTP status 404"}
        assert len(connections) == 10


def test_a_failure_of_a_store_is_raised(monkeypatch: pytest.MonkeyPatch):
    def fails(uri: str) -> bytes:
        raise StorageError("s3://b: the store is unreachable")

    monkeypatch.setattr(module, "read_photo", fails)
    with pytest.raises(StorageError, match="the store is unreachable"):
        list(read_photos(["s3://b/1.jpg"]))
