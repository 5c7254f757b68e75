"""What happens to every request before it is read: id, token, number of requests, size of the body; and its metrics."""

import hmac
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pipelines.service.config import LOOPBACK, ServiceConfig
from pipelines.service.errors import ServiceError, shown
from pipelines.service.events import service_event
from pipelines.service.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
CLOSED = 499
"""Status in the metrics of a request whose client closed the connection before the response, as in nginx."""
TRUSTED = "shan.trusted"
"""Name in the scope: whether the client has the token, or none is needed."""
REQUEST_ID = "shan.request_id"
"""Name in the scope: the id of the request. None if the client sent one that is not valid."""
_ID_HEADER = b"x-request-id"
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_UNLOGGED = frozenset({"/metrics", "/openapi.json"})
"""Paths, beside the open ones, whose requests are not logged."""


class Guard:
    """ASGI middleware."""

    def __init__(
        self,
        app: Any,
        config: ServiceConfig,
        token: str,
        metrics: Metrics,
        paths: frozenset[str],
        open_paths: frozenset[str],
    ) -> None:
        """`paths` are those that metrics name; the others are counted together.

        `open_paths` need no token and are always accepted: that of probes, and those of the search page.
        """
        self._app, self._config, self._token, self._metrics, self._paths = app, config, token.encode(), metrics, paths
        self._open_paths = open_paths
        self._in_progress = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Passes a request on, or responds with 401, 413 or 429."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, start, status = scope["path"], time.monotonic(), [CLOSED]
        own_id = _take_id(scope)

        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                message["headers"] = [*message.get("headers", ()), *own_id]
            await send(message)

        self._in_progress += 1
        self._metrics.started()
        try:
            self._require_admission(scope)
            await self._app(scope, self._limited(receive), recorded)
        except ServiceError as error:
            await respond(error, scope[REQUEST_ID], recorded)
        except Exception:
            status[0] = 500
            raise
        finally:
            self._in_progress -= 1
            shown, seconds = path if path in self._paths else "other", time.monotonic() - start
            self._metrics.finished(shown, status[0], seconds)
            if scope[REQUEST_ID] is not None and shown not in self._open_paths | _UNLOGGED:
                text = f"{scope.get('method')} {shown} {status[0]} in {1000 * seconds:.0f} ms"
                service_event("request", text, path=shown, status=status[0], seconds=seconds)

    def _require_admission(self, scope: MutableMapping[str, Any]) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        has_token = scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)
        scope[TRUSTED] = not self._token or has_token
        if scope[REQUEST_ID] is None:
            raise ServiceError(
                400,
                "X-Request-ID is not valid; send 1 to 128 letters, digits, '.', '_' and '-', or omit it",
                "X-Request-ID",
                headers[_ID_HEADER].decode("latin-1"),
            )
        if not self._token and self._config.is_loopback:
            _require_loopback(headers.get(b"host", b"").decode("latin-1"))
        if scope["path"] in self._open_paths:
            return
        if not scope[TRUSTED]:
            raise ServiceError(
                401, "the token is missing or wrong; send the header `Authorization: Bearer <token>`", "Authorization"
            )
        if self._in_progress > self._config.max_requests and scope["path"] not in _UNLOGGED:  # overload has metrics
            raise ServiceError(429, f"{self._config.max_requests} requests are in progress; try again", retry_after_s=1)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._limit:
            raise self._too_large(length.decode("latin-1"))

    def _limited(self, receive: Receive) -> Receive:
        """Returns `receive` with a limit, for a body whose length is not stated."""
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise self._too_large(size)
            return message

        return limited

    @property
    def _limit(self) -> int:
        return self._config.max_body_mb * 1_000_000

    def _too_large(self, size: int | str) -> ServiceError:
        limit = self._config.max_body_mb
        return ServiceError(
            413, f"the body has {size} bytes; send at most {limit} MB, or a smaller photo", "body", size
        )


def _require_loopback(host: str) -> None:
    """Raises ServiceError if a browser was led here by a name that a web site owns (DNS rebinding).

    Every browser sends the header; other clients may not.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if host and name.strip("[]").lower() not in LOOPBACK:
        raise ServiceError(
            403, f"the host is {shown(host)}, but without a token the service responds to localhost only", "Host", host
        )


def _take_id(scope: MutableMapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """Sets the id of a request. Returns the header that the response needs for it.

    The proxy of Ray Serve has given an id to a request without one, and adds it to the response. Without a proxy, as in
    tests, this does both.
    """
    given = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == _ID_HEADER]
    request_id = given[0] if given else str(uuid.uuid4())
    scope[REQUEST_ID] = request_id if _VALID_ID.fullmatch(request_id) else None
    return [] if given else [(_ID_HEADER, request_id.encode())]


async def respond(error: ServiceError, request_id: str | None, send: Send) -> None:
    """Sends an error as a response."""
    headers = {"content-type": "application/json", **error.headers()}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": json.dumps(error.document(request_id)).encode()})
