"""Downloads S3 objects over connections that break: botocore retries requests, but not the reading of their bodies."""

import contextlib
import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.storage.s3_client import back_off
from infra.storage.s3_errors import PRECONDITION, code_of

READ_BYTES = 32 << 20
"""Bytes per read of the body. The bytes of completed reads are kept when the connection breaks."""
BODY_ATTEMPTS = 10
"""Consecutive broken bodies without a new byte before the download fails: about 20 s of waiting in all."""


def download(client: Any, target: dict[str, str], start: int, stop: int | None) -> bytes:
    """Returns the bytes from `start` up to `stop` (None: the end) of an object; none at or beyond its end.

    After a break it resumes at the last byte, on condition (If-Match) that the object is the same, else at `start`.
    Raises botocore's errors.
    """
    parts: list[bytes] = []
    same_object: dict[str, str] = {}
    without_progress = 0
    while True:
        try:
            response = client.get_object(**target, **_range(start + sum(map(len, parts)), stop), **same_object)
        except ClientError as error:
            if code_of(error) in {"InvalidRange", "416"}:
                return b"".join(parts)
            if code_of(error) not in PRECONDITION:
                raise
            parts, same_object = [], {}
            continue
        same_object = {"IfMatch": response["ETag"]}
        pieces, broken = _read_body(response["Body"])
        parts += pieces
        if broken is None:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        without_progress = 0 if pieces else without_progress + 1
        if without_progress == BODY_ATTEMPTS:
            raise broken
        time.sleep(back_off(without_progress))


def _range(start: int, stop: int | None) -> dict[str, str]:
    if start == 0 and stop is None:
        return {}  # S3 refuses a range of an empty object
    return {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}


def _read_body(body: Any) -> tuple[list[bytes], Exception | None]:
    """Returns the pieces that arrived, and the error that ended the body early, if any."""
    pieces = []
    with contextlib.closing(body):
        try:
            while piece := body.read(READ_BYTES):
                pieces.append(piece)
        except BotoCoreError as error:
            return pieces, error
    return pieces, None
