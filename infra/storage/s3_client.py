"""The S3 client of a process, configured by the usual AWS variables and files, with deadlines.

botocore makes few attempts, and all threads share its retry quota, so a server that restarts for 20 s exhausts it.
Therefore a second handler of botocore's `needs-retry` event continues until DEADLINE_S after a request first failed.
Its read timeout starts again with every byte, so a handler of `before-send` has a deadline for the headers of responses
and requires a minimum rate of their bodies.
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3.session
from botocore import exceptions as boto
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from urllib3.exceptions import HTTPError

from infra.errors import StorageError, UserError
from infra.in_thread import in_thread
from infra.log import event
from infra.metrics import STORE_ERRORS, STORE_REQUESTS, STORE_RETRIES
from infra.minimum_rate import BYTES_PER_S, MinimumRate
from infra.storage.s3_errors import CONFLICT

DEADLINE_S = 40.0
"""Seconds for which a request is retried: longer than a server's restart, short enough for a wrong address."""
RESPONSE_GRACE_S = 60.0
"""Seconds for the headers of a response, and again for its body, such as a page of a listing, beyond those that they
(the headers: with the body of the request) take at the minimum rate."""

_TRANSIENT_STATUS = {429, 500, 502, 503, 504}

_lock = threading.Lock()
_clients: dict[int, Any] = {}


def client() -> Any:
    """Returns the S3 client of this process. A forked child creates its own, because sockets cannot be shared.

    Raises UserError for an AWS_ENDPOINT_URL that is not a URL.
    """
    with _lock:
        if os.getpid() not in _clients:
            _clients[os.getpid()] = _new_client()
        return _clients[os.getpid()]


def back_off(attempt: int) -> float:
    """Returns the seconds to wait after failed attempt 1, 2, ...: doubling up to 4 s, with jitter between workers."""
    return random.uniform(0.5, 1.0) * min(4.0, 0.1 * 2**attempt)  # noqa: S311 (not a secret)


def _new_client() -> Any:
    session = boto3.session.Session()
    region = os.environ.get("AWS_REGION") or session.region_name or "us-east-1"  # boto3 ignores AWS_REGION
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=32,
        # Bodies are signed with their SHA-256 instead: not every server understands the CRC trailers of newer SDKs.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        made = session.client("s3", region_name=region, config=config)
    except ValueError:  # raised for AWS_ENDPOINT_URL; its text is dropped because it may hold a password
        raise UserError("AWS_ENDPOINT_URL is not an http(s) URL; correct it") from None
    made.meta.events.register("before-parse.s3", _mark_truncated_response)
    made.meta.events.register("needs-retry.s3", _retry_delay)
    session = made._endpoint.http_session  # noqa: SLF001 - configured by botocore
    made.meta.events.register("before-send.s3", lambda request, **_: _send(session, request))
    return made


def _send(session: Any, request: Any) -> AWSResponse:
    """Handles `before-send`: sends a request and reads its response. `s3_download` reads the body of a download.

    Raises StorageError if the server is slower than the minimum rate.
    """
    is_download, request.stream_output = request.stream_output, True  # so that `session` does not read the body
    url = urlsplit(request.url)
    name = f"{url.hostname}{url.path}"
    sent: AWSResponse = _send_in_time(session, request, name)
    if is_download:
        return sent
    response = AWSResponse(request.url, sent.status_code, sent.headers, _Body(sent.raw, name))
    try:
        _ = response.content  # reads it
    except HTTPError as error:
        raise boto.ConnectionClosedError(error=error, request=request, endpoint_url=request.url) from error
    return response


def _send_in_time(session: Any, request: Any, name: str) -> Any:
    """Returns the response of `session` with an unread body. Raises StorageError if its headers come too slowly.

    A thread sends, because reading headers cannot be interrupted; it ends with the connection.
    """
    seconds = RESPONSE_GRACE_S + int(request.headers.get("Content-Length") or 0) / BYTES_PER_S
    try:
        return in_thread(lambda: session.send(request)).result(seconds)
    except TimeoutError:
        raise StorageError(
            f"{name}: the S3 server has not sent the headers of a response for {seconds:.0f} s; re-run the command "
            "when the store responds"
        ) from None


class _Body:
    """The body of a response, as AWSResponse reads it."""

    def __init__(self, raw: Any, name: str) -> None:
        self._raw, self._name = raw, name

    def stream(self) -> Iterator[bytes]:
        """Yields the bytes that arrive. Raises StorageError if they are fewer than the minimum rate requires."""
        received, rate = 0, MinimumRate(RESPONSE_GRACE_S)
        while piece := self._raw.read1(1 << 16):
            yield piece
            received += len(piece)
            if rate.is_missed(received):
                self._raw.close()
                raise StorageError(
                    f"{self._name}: the S3 server sends less than {rate}; re-run the command when the store responds"
                )


def _mark_truncated_response(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Turns a response that is shorter than its Content-Length into a 502, which is retried.

    botocore accepts such a response: a listing cut after its headers would read as empty.
    """
    body, expected = response_dict["body"], response_dict["headers"].get("content-length")
    if operation_model.http["method"] == "HEAD" or not isinstance(body, bytes) or expected is None:
        return
    if len(body) != int(expected):
        response_dict.update(status_code=502, body=b"")


def _retry_delay(
    attempts: int, response: Any, caught_exception: Any, request_dict: dict[str, Any], operation: Any, **_: Any
) -> float | None:
    """Handles `needs-retry`: returns the seconds to wait before the request is sent again, None to give up.

    botocore emits this event after every attempt, also after one that has succeeded.
    """
    _record(operation.name, attempts, response, caught_exception)
    if not _is_transient(response, caught_exception, operation.name):
        return None
    deadline = request_dict["context"].setdefault("shan_deadline", time.monotonic() + DEADLINE_S)
    delay = back_off(attempts)
    if time.monotonic() + delay >= deadline:
        return None
    reason = type(caught_exception).__name__ if response is None else f"HTTP {response[0].status_code}"
    text = f"{operation.name} of S3 failed ({reason}) and is repeated in {delay:.1f} s"
    event("store_retry", text, operation=operation.name, reason=reason, attempt=attempts)
    return delay


def _record(operation: str, attempts: int, response: Any, caught: Any) -> None:
    """Records an attempt in the metrics."""
    STORE_REQUESTS.add(operation=operation)
    if attempts > 1:
        STORE_RETRIES.add(operation=operation)
    if kind := _error_kind(caught, 0 if response is None else response[0].status_code):
        STORE_ERRORS.add(kind=kind)


def _error_kind(caught: Any, status: int) -> str:
    """Returns the kind of a failed attempt; empty for a response, such as that an object exists or does not."""
    if isinstance(caught, boto.ConnectTimeoutError | boto.ReadTimeoutError | StorageError):  # StorageError: too slow
        return "timeout"
    if isinstance(caught, boto.ConnectionError | boto.HTTPClientError):
        return "connection"
    if caught is not None:
        return "other"
    if status in (429, 503):
        return "throttled"
    if status in (401, 403):
        return "denied"
    return "server" if status >= 500 else ""


def _is_transient(response: Any, caught: Any, operation: str) -> bool:
    if caught is not None:
        return isinstance(caught, boto.ConnectionError | boto.HTTPClientError) and not isinstance(caught, boto.SSLError)
    http, parsed = response
    code = parsed.get("Error", {}).get("Code")
    return http.status_code in _TRANSIENT_STATUS or (operation == "PutObject" and code in CONFLICT)
