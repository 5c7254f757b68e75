"""What happens to every request before it is read: token, number of requests, size of the body; and its metrics."""

import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pipelines.service.config import LOOPBACK, ServiceConfig
from pipelines.service.errors import ServiceError, shown
from pipelines.service.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
CLOSED = 499
"""Status in the metrics of a request whose client closed the connection before the response, as in nginx."""
TRUSTED = "shan.trusted"
"""Name in the scope: whether the client has the token, or none is needed."""


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

        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        self._in_progress += 1
        self._metrics.started()
        try:
            self._require_admission(scope)
            await self._app(scope, self._limited(receive), recorded)
        except ServiceError as error:
            await respond(error, recorded)
        except Exception:
            status[0] = 500
            raise
        finally:
            self._in_progress -= 1
            shown = path if path in self._paths else "other"
            self._metrics.finished(shown, status[0], time.monotonic() - start)

    def _require_admission(self, scope: MutableMapping[str, Any]) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        has_token = scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)
        scope[TRUSTED] = not self._token or has_token
        if not self._token and self._config.is_loopback:
            _require_loopback(headers.get(b"host", b"").decode("latin-1"))
        if scope["path"] in self._open_paths:
            return
        if not scope[TRUSTED]:
            raise ServiceError(
                401, "the token is missing or wrong; send the header `Authorization: Bearer <token>`", "Authorization"
            )
        if self._in_progress > self._config.max_requests:
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


async def respond(error: ServiceError, send: Send) -> None:
    """Sends an error as a response."""
    headers = {"content-type": "application/json", **error.headers()}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": json.dumps(error.document()).encode()})
