"""Downloads S3 objects over connections that break: botocore retries requests, but not the reading of their bodies."""

import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, IncompleteReadError, ResponseStreamingError
from urllib3.exceptions import HTTPError

from infra.errors import StorageError
from infra.metrics import STORE_ERRORS, STORE_RETRIES
from infra.minimum_rate import MinimumRate
from infra.storage.s3_client import back_off
from infra.storage.s3_errors import PRECONDITION, code_of

READ_BYTES = 1 << 20
"""Most bytes per read of the body. The bytes of completed reads are kept when the connection breaks."""
BODY_ATTEMPTS = 10
"""Consecutive broken bodies without a new byte before the download fails: about 20 s of waiting in all."""
GRACE_S = 120.0
"""Seconds for all attempts and waits of a download, beyond those that its bytes take at the minimum rate."""


def download_object(client: Any, target: dict[str, str], start: int, stop: int | None) -> bytes:
    """Returns the bytes from `start` up to `stop` (None: the end) of an object; none at or beyond its end.

    After a break it resumes at the last byte, on condition (If-Match) that the object is the same, else at `start`.
    Raises botocore's errors, and StorageError if the store is slower than the minimum rate.
    """
    parts: list[bytes] = []
    same_object: dict[str, str] = {}
    without_progress, rate = 0, MinimumRate(GRACE_S)
    while True:
        received = sum(map(len, parts))
        if rate.is_missed(received):
            raise StorageError(
                f"s3://{target['Bucket']}/{target['Key']}: the S3 server sends less than {rate}; re-run the command "
                "when the store responds"
            )
        try:
            response = client.get_object(**target, **_range(start + received, stop), **same_object)
        except ClientError as error:
            if code_of(error) in {"InvalidRange", "416"}:
                return b"".join(parts)
            if code_of(error) not in PRECONDITION:
                raise
            parts, same_object = [], {}
            continue
        same_object = {"IfMatch": response["ETag"]}
        pieces, broken = _read_body(response, received, rate)
        parts += pieces
        if broken is None:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        STORE_ERRORS.add(kind="timeout" if isinstance(broken, TimeoutError) else "connection")
        without_progress = 0 if pieces else without_progress + 1
        if without_progress == BODY_ATTEMPTS:
            raise broken if isinstance(broken, BotoCoreError) else ResponseStreamingError(error=broken)
        time.sleep(back_off(without_progress))
        STORE_RETRIES.add(operation="GetObject")


def _range(start: int, stop: int | None) -> dict[str, str]:
    if start == 0 and stop is None:
        return {}  # S3 refuses a range of an empty object
    return {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}


def _read_body(response: Any, before: int, rate: MinimumRate) -> tuple[list[bytes], Exception | None]:
    """Returns the pieces of a body that arrived, and the error that ended it early, if any.

    `before`: bytes of the download that had arrived before.
    """
    pieces: list[bytes] = []
    received, expected = 0, response["ContentLength"]
    with response["Body"] as body:  # of urllib3, whose `read1` does not wait for all bytes, nor count them
        try:
            while piece := body.read1(READ_BYTES):
                pieces.append(piece)
                received += len(piece)
                if rate.is_missed(before + received):
                    return pieces, TimeoutError(f"less than {rate}")
        except HTTPError as error:
            return pieces, error
    is_complete = received == expected
    return pieces, None if is_complete else IncompleteReadError(actual_bytes=received, expected_bytes=expected)
