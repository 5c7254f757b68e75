"""What the guard refuses before a request is read: tokens, bodies and numbers of requests; and what it counts."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pipelines.service.config import ServiceConfig
from pipelines.service.errors import ServiceError
from pipelines.service.guard import REQUEST_ID, Guard
from pipelines.service.metrics import Metrics

CONFIG = ServiceConfig(max_body_mb=1, max_requests=2)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Responds with the size of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def guard(token: str = "", app: Callable[..., Awaitable[None]] = echo, metrics: Metrics | None = None) -> Guard:
    return Guard(app, CONFIG, token, metrics or Metrics(5), frozenset({"/search"}), frozenset({"/healthz"}))


async def respond(
    guarded: Guard, path: str = "/search", headers: dict[str, str] | None = None, body: tuple[bytes, ...] = (b"",)
) -> tuple[int, Any, dict[str, str]]:
    """Returns status, body and headers of the response to a request, whose body comes in pieces."""
    sent: list[Any] = []
    pieces = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    pieces[-1]["more_body"] = False

    async def receive() -> Any:
        return pieces.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    named = [(name.lower().encode(), text.encode()) for name, text in (headers or {}).items()]
    await guarded({"type": "http", "method": "POST", "path": path, "headers": named}, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    text = b"".join(message["body"] for message in sent[1:])
    return sent[0]["status"], json.loads(text), found


def test_without_a_token_every_request_is_accepted():
    assert asyncio.run(respond(guard(), body=(b"abc", b"de")))[:2] == (200, 5)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:8000", 403),
        ("evil.example:80@127.0.0.1", 403),
    ],
)
def test_without_a_token_names_of_web_sites_are_refused(host: str, status: int):
    found, document, _ = asyncio.run(respond(guard(), headers={"Host": host}))
    assert found == status
    if status == 403:
        assert document["message"] == (
            f"the host is {host}, but without a token the service responds to localhost only"
        )
    token = {"Host": host, "Authorization": "Bearer secret"}
    assert asyncio.run(respond(guard("secret"), headers=token))[0] == 200


def test_a_client_that_leaves_is_not_counted_as_a_defect():
    async def left(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    async def defect(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    metrics = Metrics(5)
    for app, error in ((left, asyncio.CancelledError), (defect, ZeroDivisionError)):
        with pytest.raises(error):
            asyncio.run(respond(guard(app=app, metrics=metrics)))
    for status in ("499", "500"):
        assert f'shan_service_requests_total{{path="/search",status="{status}"}} 1.0' in metrics.text().decode()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer secret", 200),
        ("bearer  secret", 200),
        ("Bearer secret2", 401),
        ("Bearer ", 401),
        ("Basic secret", 401),
        ("secret", 401),
        ("Bearer sécret", 401),
        (None, 401),
    ],
)
def test_a_token_is_required_on_every_path_but_that_of_probes(header: str | None, status: int):
    headers = {} if header is None else {"Authorization": header}
    for path in ("/search", "/metrics", "/photo", "/unknown"):
        found, document, named = asyncio.run(respond(guard("secret"), path, headers))
        assert found == status
        if status == 401:
            assert named["www-authenticate"] == "Bearer"
            assert "send the header" in document["message"]
            assert "secret" not in json.dumps(document)
    assert asyncio.run(respond(guard("secret"), "/healthz", headers))[0] == 200


@pytest.mark.parametrize(
    ("headers", "body"),
    [({"Content-Length": "1000001"}, (b"",)), ({}, (b"x" * 999_999, b"yy")), ({"Content-Length": "-1"}, (b"",))],
)
def test_a_large_body_is_refused_stated_or_not(headers: dict[str, str], body: tuple[bytes, ...]):
    status, document, _ = asyncio.run(respond(guard(), "/search", headers, body))
    assert status == 413
    assert document["field"] == "body"
    assert "send at most 1 MB" in document["message"]


def test_a_body_at_the_limit_is_accepted():
    headers = {"Content-Length": "1000000"}
    assert asyncio.run(respond(guard(), "/search", headers, (b"x" * 1_000_000,)))[:2] == (200, 1_000_000)


@pytest.mark.parametrize(
    ("given", "is_valid"), [("a-B_7.", True), ("x" * 128, True), ("x" * 129, False), ("a b", False)]
)
def test_a_valid_id_of_a_client_is_the_requests(given: str, is_valid: bool, service_log: list[logging.LogRecord]):
    seen: list[str | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope[REQUEST_ID])
        raise ServiceError(422, "k is 0; it must be at least 1", "k")

    status, document, headers = asyncio.run(respond(guard(app=app), headers={"X-Request-ID": given}))
    assert (status, seen) == ((422, [given]) if is_valid else (400, []))
    assert document["request_id"] == (given if is_valid else None)
    assert "x-request-id" not in headers  # the proxy of Ray Serve adds it
    assert [vars(record)["status"] for record in service_log] == [422] * is_valid
    assert (given in document["message"]) is False


def test_a_request_without_an_id_gets_one():
    found = [asyncio.run(respond(guard("secret")))[1:] for _ in range(2)]
    assert len({document["request_id"] for document, _ in found}) == 2
    for document, headers in found:
        assert headers["x-request-id"] == document["request_id"]


def test_requests_beyond_the_limit_are_refused():
    async def exchange() -> None:
        ready = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await ready.wait()
            await echo(scope, receive, send)

        guarded = guard(app=slow)
        waiting = [asyncio.create_task(respond(guarded)) for _ in range(2)]
        await asyncio.sleep(0)
        status, document, headers = await respond(guarded)
        assert (status, headers["retry-after"]) == (429, "1")
        assert document["message"] == "2 requests are in progress; try again"
        monitoring = asyncio.create_task(respond(guarded, "/metrics"))
        ready.set()
        assert (await monitoring)[0] == 200
        assert [found[0] for found in await asyncio.gather(*waiting)] == [200, 200]
        assert (await respond(guarded))[0] == 200

    asyncio.run(exchange())


def test_requests_are_counted_and_logged_without_the_token(service_log: list[logging.LogRecord]):
    metrics = Metrics(5)
    guarded = guard("secret", metrics=metrics)
    asyncio.run(respond(guarded))
    asyncio.run(respond(guarded, "/search", {"Authorization": "Bearer secret"}))
    asyncio.run(respond(guarded, "/other/path", {"Authorization": "Bearer secret"}))
    text = metrics.text().decode()
    for line in (
        'shan_service_requests_total{path="/search",status="401"} 1.0',
        'shan_service_requests_total{path="/search",status="200"} 1.0',
        'shan_service_requests_total{path="other",status="200"} 1.0',
        "shan_service_requests_in_progress 0.0",
    ):
        assert line in text.splitlines()
    found = [(vars(record)["path"], vars(record)["status"]) for record in service_log]
    assert found == [("/search", 401), ("/search", 200), ("other", 200)]
    assert "secret" not in text + "".join(str(vars(record)) for record in service_log)
