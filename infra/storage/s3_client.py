"""The process's S3 client: what the usual AWS variables and files say, and how long it waits for a store that is down.

botocore's own retries are few, jittered down to nothing and drawn from a purse that all threads share: a server that
restarts for 20 s empties it. So where they give up, a second handler of the same event goes on until PATIENCE_S have
passed since a request first failed.
"""

import os
import random
import threading
import time
from typing import Any

import boto3.session
from botocore import exceptions as boto
from botocore.config import Config

from infra.errors import UserError
from infra.storage.s3_errors import CONFLICT

PATIENCE_S = 40.0
"""Seconds for which a request is repeated: longer than a store restarts, short enough for a wrong address."""

_PASSING_STATUS = {429, 500, 502, 503, 504}

_lock = threading.Lock()
_clients: dict[int, Any] = {}


def client() -> Any:
    """The S3 client of this process, made on first use: a forked child makes its own, for sockets cannot be shared."""
    with _lock:
        if os.getpid() not in _clients:
            _clients[os.getpid()] = _new_client()
        return _clients[os.getpid()]


def back_off(attempt: int) -> float:
    """Seconds to wait after failed attempt 1, 2, ...: doubling to 4 s, with jitter, so that workers come back apart."""
    return random.uniform(0.5, 1.0) * min(4.0, 0.1 * 2**attempt)  # noqa: S311 (no secret hangs on it)


def _new_client() -> Any:
    session = boto3.session.Session()
    region = os.environ.get("AWS_REGION") or session.region_name or "us-east-1"  # boto3 alone overlooks AWS_REGION
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=32,
        # Bodies are signed with their SHA-256 instead: not every store understands the CRC trailers of newer SDKs.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        made = session.client("s3", region_name=region, config=config)
    except ValueError:  # of AWS_ENDPOINT_URL; the text is kept out, it may hold a password
        raise UserError("the S3 endpoint is no http(s) URL; correct AWS_ENDPOINT_URL") from None
    made.meta.events.register("before-parse.s3", _mark_cut_answer)
    made.meta.events.register("needs-retry.s3", _repeat)
    return made


def _mark_cut_answer(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Turns an answer shorter than its Content-Length into a 502, which is repeated.

    botocore lets it pass: cut after its headers, a listing would read as empty.
    """
    body, promised = response_dict["body"], response_dict["headers"].get("content-length")
    if operation_model.http["method"] == "HEAD" or not isinstance(body, bytes) or promised is None:
        return
    if len(body) != int(promised):
        response_dict.update(status_code=502, body=b"")


def _repeat(
    attempts: int, response: Any, caught_exception: Any, request_dict: dict[str, Any], operation: Any, **_: Any
) -> float | None:
    """Handler of botocore's `needs-retry`: seconds to wait before the request is sent again, None to leave it."""
    if not _passes(response, caught_exception, operation.name):
        return None
    give_up_at = request_dict["context"].setdefault("shan_give_up_at", time.monotonic() + PATIENCE_S)
    delay = back_off(attempts)
    return delay if time.monotonic() + delay < give_up_at else None


def _passes(response: Any, caught: Any, operation: str) -> bool:
    if caught is not None:
        return isinstance(caught, boto.ConnectionError | boto.HTTPClientError) and not isinstance(caught, boto.SSLError)
    http, parsed = response
    code = parsed.get("Error", {}).get("Code")
    return http.status_code in _PASSING_STATUS or (operation == "PutObject" and code in CONFLICT)
