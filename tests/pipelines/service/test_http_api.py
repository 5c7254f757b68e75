"""The HTTP interface before a gallery: what reaches it, and the errors of its processes as responses."""

import asyncio
import json
from typing import Any

import pytest
import ray.serve.exceptions  # noqa: F401 - the first import takes seconds, longer than deadlines here
from ray.exceptions import ActorDiedError

from pipelines.service.config import ServiceConfig
from pipelines.service.errors import ServiceError
from pipelines.service.guard import CLOSED
from pipelines.service.health import FAILURES
from pipelines.service.http_api import build_api
from pipelines.service.served import Served, ServedGallery, lost_shares
from pipelines.service.thumbnail import Thumbnail

FOUND: dict[str, Any] = {"hits": [], "partial": False, "missing_shares": [], "stages": {"encode": 0.1}}


class Handle:
    """A handle of a share or detector: `handle.<method>.remote(...)` returns or raises what was given."""

    def __init__(self, **results: Any) -> None:
        self.results, self.calls = results, list[tuple[Any, ...]]()

    def __getattr__(self, method: str) -> "Handle":
        self.method = method
        return self

    async def remote(self, *arguments: Any) -> Any:
        self.calls.append((self.method, *arguments))
        result = self.results[self.method]
        if isinstance(result, Exception):
            raise result
        return result


def served(*shares: Handle, detector: Handle | None = None) -> Served:
    found = Served(ServiceConfig(deadline_s=5, image_sources=("s3://b/photos/",)), None)
    if shares:
        about = {"items": {"photos": 4, "captions": 8}, "splits": ["test", "train"], "shares": len(shares)}
        found._gallery = ServedGallery("a", about, {"model": "models:/m/1", "index": "i"}, list(shares), detector)
    return found


def ask(found: Served, method: str, path: str, body: bytes = b"", content_type: str = "") -> tuple[int, Any]:
    """Returns status and body of the response to a request."""
    return exchange(found, method, path, body, content_type)[:2]


def exchange(
    found: Served, method: str, path: str, body: bytes = b"", content_type: str = "", token: str = ""
) -> tuple[int, Any, dict[str, str]]:
    """Returns status, body and headers of the response to a request, which has no token."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode()}
    headers = [(b"content-type", content_type.encode())] if content_type else []
    scope |= {"headers": headers, "http_version": "1.1", "scheme": "http", "server": ("h", 80), "root_path": ""}
    asyncio.run(build_api(found, token)(scope, receive, send))
    named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], json.loads(b"".join(message["body"] for message in sent[1:])), named


def test_a_sentence_and_a_photo_reach_the_gallery():
    share, detector = Handle(search=FOUND), Handle(detect=("regions", "boxes"))
    status, document = ask(served(share), "GET", "/search?sentence=a+dog&k=3&split=test")
    assert (status, document["gallery"], document["model"]) == (200, "photos", "models:/m/1")
    assert [call[:-1] for call in share.calls] == [("search", "a dog", 3, 100, ("test", ""), False)]
    assert 4 < share.calls[0][-1] <= 5
    for body, content_type in ((b"photo", "image/jpeg"), (b'{"image_uri": "s3://b/photos/p.jpg"}', "application/json")):
        status, document = ask(served(share, detector=detector), "POST", "/search", body, content_type)
        assert (status, document["gallery"]) == (200, "captions")
        assert share.calls[-1][:2] == ("search", "regions")
    assert detector.calls == [("detect", b"photo"), ("detect", "s3://b/photos/p.jpg")]


def test_a_share_has_what_detection_leaves_of_the_time():
    class Slow(Handle):
        async def remote(self, *arguments: Any) -> Any:
            await asyncio.sleep(0.3)
            return await super().remote(*arguments)

    share, detector = Handle(search=FOUND), Slow(detect=("regions", "boxes"))
    assert ask(served(share, detector=detector), "POST", "/search", b"photo", "image/jpeg")[0] == 200
    assert 0 < share.calls[0][-1] <= 4.7


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/search?sentence=a&k=1&k=2", 422, "k is given twice; give it once"),
        ("/search?sentence=a&split=dev", 422, "split is dev; the index has test, train"),
        ("/search?sentence=a&split=", 422, "split is empty; the index has test, train"),
        ("/search?image_uri=s3://b/other.jpg", 422, "which the service may not read"),
        ("/search?image_uri=s3://b/photos/p.jpg", 422, "the model is served without a detector"),
        ("/nothing", 404, "the paths are in /openapi.json"),
        ("/search/", 404, "the paths are in /openapi.json"),
    ],
)
def test_other_requests_reach_no_process(path: str, status: int, message: str):
    share = Handle()
    found, document = ask(served(share), "GET", path)
    assert found == status
    assert message in document["message"]
    assert share.calls == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/search", "GET, POST"), ("PUT", "/healthz", "GET, HEAD"), ("GET", "/score", "POST")],
)
def test_all_methods_of_a_path_are_named(method: str, path: str, allowed: str):
    status, _, headers = exchange(served(Handle()), method, path)
    assert (status, headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ServiceError(400, "image cannot be used", "image"), 400, "image cannot be used"),
        (TimeoutError(), 504, "the deadline of the request passed"),
        (ActorDiedError(), 503, "a process of the service ended"),
    ],
)
def test_errors_of_processes_are_responses(error: Exception, status: int, message: str):
    found, document = ask(served(Handle(search=error)), "GET", "/search?sentence=a")
    assert found == status
    assert message in document["message"]


def test_a_pair_is_that_of_the_share_that_has_the_key():
    pair = {"key": "p7", "score": 0.5, "explanation": {}}
    found = served(Handle(score_key=None), Handle(score_key=pair))
    body = b'{"sentence": "a", "key": "p7"}'
    status, document = ask(found, "POST", "/score", body)
    assert (status, document["score"], "explanation" in document) == (200, 0.5, False)
    assert "explanation" in ask(found, "POST", "/explain", body)[1]
    assert ask(served(Handle(score_key=None)), "POST", "/score", body)[0] == 404
    assert ask(served(Handle(score_key=pair), Handle(score_key=pair)), "POST", "/score", body)[0] == 422


def test_a_thumbnail_is_that_of_the_share_that_has_the_key():
    found = served(Handle(photo=None), Handle(photo=Thumbnail(b'"jpeg"', 640, 480)))
    status, document, headers = exchange(found, "GET", "/photo?key=p7")
    assert (status, document, headers["cross-origin-resource-policy"]) == (200, "jpeg", "same-origin")
    status, document = ask(served(Handle(photo=None)), "GET", "/photo?key=p7&dataset=d")
    message = "key is p7, which the index does not have in data set d; take key and dataset from /search"
    assert (status, document["message"]) == (404, message)
    status, document = ask(found, "GET", "/photo?key=p7&image_uri=http://169.254.169.254/")
    assert (status, document["message"]) == (422, "image_uri is not a field; the fields are key, dataset")
    assert ask(found, "GET", "/photo")[0] == 422


def test_a_photo_needs_only_the_share_that_has_it():
    class Silent(Handle):
        async def remote(self, *arguments: Any) -> Any:
            await asyncio.sleep(60)

    photo, lost = Handle(photo=Thumbnail(b'"jpeg"', 640, 480)), Handle(photo=ActorDiedError())
    assert ask(served(Silent(), photo), "GET", "/photo?key=p7&dataset=d")[0] == 200
    assert ask(served(Silent(), Handle(photo=None), photo), "GET", "/photo?key=p7")[0] == 200
    assert ask(served(lost, photo), "GET", "/photo?key=p7")[0] == 200
    assert ask(served(lost, Handle(photo=None)), "GET", "/photo?key=p7")[0] == 503
    failing = Handle(photo=ServiceError(422, "2 photos have the key p7", "dataset"))
    assert ask(served(failing, photo), "GET", "/photo?key=p7")[0] == 422


def test_a_share_that_responds_later_may_have_the_key_too():
    class Slow(Handle):
        async def remote(self, *arguments: Any) -> Any:
            await asyncio.sleep(0.2)
            return await super().remote(*arguments)

    photo = Thumbnail(b'"jpeg"', 640, 480)
    for path, status in (("/photo?key=p7", 422), ("/photo?key=p7&dataset=d", 200)):
        assert ask(served(Handle(photo=photo), Slow(photo=photo)), "GET", path)[0] == status


def test_without_a_gallery_the_service_is_not_healthy():
    assert ask(served(Handle()), "GET", "/healthz")[0] == 200
    status, document = ask(served(), "GET", "/healthz")
    assert (status, document["status"]) == (503, "unavailable")
    assert document["message"] == "no index is served yet; try again"


def test_failing_searches_are_reported_by_the_health_check():
    found = served(Handle(search=TimeoutError()))
    for _ in range(FAILURES):
        assert ask(found, "GET", "/healthz")[1]["status"] == "ok"
        assert ask(found, "GET", "/search?sentence=a&split=dev")[0] == 422  # not a failure of the service
        assert ask(found, "GET", "/search?sentence=a")[0] == 504
    status, document = ask(found, "GET", "/healthz")
    assert (status, document["status"]) == (503, "unavailable")
    assert document["message"].startswith("the latest searches failed")


@pytest.mark.parametrize(("shares", "status"), [(1, 200), (0, 503)])
def test_the_health_check_shows_a_status_without_token(shares: int, status: int):
    found, document, headers = exchange(served(*[Handle()] * shares), "GET", "/healthz", token="secret")
    assert (found, document["status"]) == (status, "ok" if shares else "unavailable")
    assert set(document) == ({"status"} if shares else {"status", "message"})
    assert headers.get("retry-after") == (None if shares else "5")


def test_lost_shares_follow_from_the_details_of_serve():
    def deployment(*states: str) -> dict[str, Any]:
        return {"replicas": [{"state": state} for state in states]}

    deployments = {
        "share-0": deployment("RUNNING", "STARTING"),
        "share-1": deployment("STARTING", "STOPPING"),
        "share-10": deployment(),
        "detector": deployment("STARTING"),
    }
    assert lost_shares(deployments) == [1, 10]


def test_a_partial_result_is_reported_by_the_health_check():
    found = served(Handle(search=FOUND | {"partial": True, "missing_shares": [1]}))
    found._gallery.about |= {"index": "i", "model": "m"}
    assert ask(found, "HEAD", "/healthz")[1]["status"] == "ok"
    assert ask(found, "GET", "/search?sentence=a")[0] == 200
    assert ask(found, "GET", "/healthz")[1]["status"] == "partial"


def test_a_client_that_leaves_an_upload_is_not_a_defect():
    found = served(Handle())
    pieces = [{"type": "http.request", "body": b"part", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return pieces.pop(0)

    async def send(message: Any) -> None:
        assert message.get("status") in (CLOSED, None)

    scope = {"type": "http", "method": "POST", "path": "/search", "query_string": b"", "headers": []}
    asyncio.run(build_api(found, "")(scope, receive, send))
    assert 'requests_total{path="/search",status="499"} 1.0' in found.metrics.text().decode()


@pytest.mark.parametrize(("after_s", "calls"), [(0.01, 3), (2.1, 1)])
def test_only_a_share_that_is_late_is_left_alone(after_s: float, calls: int):
    class Silent(Handle):
        async def remote(self, *arguments: Any) -> Any:
            self.calls.append(arguments)
            await asyncio.sleep(60)

    silent, other = Silent(), Handle(search=FOUND)
    gallery = served(other, silent).gallery

    async def exchange() -> None:
        end = asyncio.get_running_loop().time() + 2
        for _ in range(6):
            cancelled = asyncio.ensure_future(gallery.call("search", "a", end=end))
            done, _ = await asyncio.wait([cancelled], timeout=after_s if not silent.calls else 0.001)
            if not done:
                cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)

    asyncio.run(exchange())
    assert len(silent.calls) == calls


def test_a_share_whose_process_ended_is_left_alone():
    lost, other = Handle(search=ActorDiedError()), Handle(search=FOUND)
    found = served(other, lost)
    for _ in range(6):
        assert ask(found, "GET", "/search?sentence=a")[0] == 200
    assert len(lost.calls) == 1
