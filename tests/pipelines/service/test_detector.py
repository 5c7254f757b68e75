"""The detector of the service: photos by bytes and by URI, deadlines, and detectors that cannot be used."""

import asyncio
import io
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import infra.tracking
from infra.errors import StorageError, UserError
from infra.tracking import TrackingConfig
from pipelines.models.detection import MissingDetectorError
from pipelines.service import detector as detector_module
from pipelines.service.config import ServiceConfig
from pipelines.service.detector import HANGING, PhotoDetector
from pipelines.service.errors import ServiceError
from pipelines.service.generation import Generation
from tests.support.bad_stores import no_s3_server
from tests.support.web_server import OK, sends, status, web_server

Load = Callable[..., Any]


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), (200, 10, 10)).save(buffer, "PNG")
    return buffer.getvalue()


class Regions:
    """A detector that finds one region."""

    def require(self, device: str) -> None:
        assert device == "cpu"

    def __call__(self, photos: list[Any], device: str) -> list[Any]:
        return [SimpleNamespace(features_RF=np.ones((1, 3)), boxes_R4=np.zeros((1, 4), np.float32)) for _ in photos]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Load], PhotoDetector]:
    """Returns a function that creates a detector process's object, given what loads the model's detector."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(infra.tracking, "require_store", lambda config: config)

    def create(load: Load, sources: tuple[str, ...] = ()) -> PhotoDetector:
        monkeypatch.setattr(detector_module, "load_detector", load)
        config = ServiceConfig(deadline_s=1.0, image_sources=sources)
        return PhotoDetector(Generation("i@0", "models:/m/1"), TrackingConfig(uri="http://mlflow"), config)

    return create


def detect(found: PhotoDetector, image: bytes | str) -> Any:
    return asyncio.run(found.detect(image))


def test_a_photo_is_bytes_or_a_uri(start: Callable[[Load], PhotoDetector], tmp_path: Path):
    found = start(lambda *_: Regions())
    (tmp_path / "photo.png").write_bytes(png())
    for image in (png(), str(tmp_path / "photo.png"), f"file://{tmp_path}/photo.png"):
        features_RF, boxes_R4 = detect(found, image)
        assert (features_RF.shape, boxes_R4.shape) == ((1, 3), (1, 4))
    for unusable, field in ((b"no image", "image"), (str(tmp_path / "none.png"), "image_uri")):
        with pytest.raises(ServiceError, match=f"{field} cannot be used") as caught:
            detect(found, unusable)
        assert (caught.value.status, caught.value.field) == (400, field)


def test_a_store_that_is_down_is_not_the_fault_of_the_client(start: Callable[[Load], PhotoDetector]):
    found = start(lambda *_: Regions())
    with (
        no_s3_server(),
        pytest.raises(ServiceError, match="the store of image_uri cannot be read") as caught,
    ):
        detect(found, "s3://bucket/photos/a.jpg")
    assert (caught.value.status, caught.value.field, caught.value.retry_after_s) == (503, "image_uri", 5)


def test_a_redirect_out_of_the_image_sources_is_refused(start: Callable[[Load], PhotoDetector]):
    """A server below the sources could send the service to any other one, such as a cloud's metadata server."""
    with web_server(sends(OK, b"0123456789")) as (private, requests):
        with web_server(sends(status(302, f"Location: {private}"))) as (uri, _):
            found = start(lambda *_: Regions(), (uri.replace("a.jpg", ""),))
            with pytest.raises(ServiceError, match="a redirect, leads to a URL that may not be read") as caught:
                detect(found, uri)
        assert (caught.value.status, caught.value.field, requests) == (400, "image_uri", [])


def test_a_silent_web_server_delays_no_other_photo(start: Callable[[Load], PhotoDetector]):
    found = start(lambda *_: Regions())

    async def both() -> float:
        slow = asyncio.create_task(found.detect(f"http://127.0.0.1:{server.getsockname()[1]}/p.jpg"))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        await found.detect(png())
        seconds = time.monotonic() - started
        with pytest.raises(ServiceError, match="image_uri cannot be used") as caught:
            await asyncio.wait_for(slow, 20)
        assert caught.value.status == 400
        return seconds

    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts connections, and never responds
        assert asyncio.run(both()) < 0.3


def test_a_detector_that_hangs_ends_its_process(
    start: Callable[[Load], PhotoDetector], monkeypatch: pytest.MonkeyPatch
):
    seen: list[str] = []

    @contextmanager
    def deadline(seconds: float) -> Iterator[None]:
        seen.append(f"{seconds:g} s")
        yield
        seen.append("end")

    class Recorded(Regions):
        def __call__(self, photos: list[Any], device: str) -> list[Any]:
            seen.append("detects")
            return super().__call__(photos, device)

    monkeypatch.setattr(detector_module, "process_deadline", deadline)
    detect(start(lambda *_: Recorded()), png())
    assert seen == [f"{HANGING} s", "detects", "end"]


@pytest.mark.parametrize(
    ("error", "status", "field"),
    [
        (UserError("the weights have another sha256"), 503, None),
        (StorageError("the weights have another sha256"), 503, None),
        (MissingDetectorError("the weights have another sha256"), 422, "image"),
    ],
    ids=["weights", "store", "no detector"],
)
def test_a_detector_that_cannot_be_used_is_tried_again(
    start: Callable[[Load], PhotoDetector],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    field: str | None,
):
    problems = [error]

    def load(*_: Any) -> Regions:
        if problems:
            raise problems.pop()
        return Regions()

    found = start(load)
    with pytest.raises(ServiceError, match="photos cannot be used: the weights have another sha256; search") as caught:
        detect(found, png())
    assert (caught.value.status, caught.value.field, caught.value.retry_after_s) == (status, field, None)
    monkeypatch.setattr(found, "_again_at", 0.0)
    assert detect(found, png())[0].shape == (1, 3)


def test_files_are_removed_before_the_process_is_killed(start: Callable[[Load], PhotoDetector], tmp_path: Path):
    found = start(lambda *_: Regions())
    assert len(list(tmp_path.iterdir())) == 1
    found.__del__()
    assert list(tmp_path.iterdir()) == []
