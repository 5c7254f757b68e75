"""Reads S3 objects whole although connections break: botocore repeats requests, but leaves streams to the caller."""

import contextlib
import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.storage.s3_client import back_off
from infra.storage.s3_errors import PRECONDITION, code_of

READ_BYTES = 32 << 20
"""Bytes asked of the stream at once; what came before a cut is kept."""
BODY_ATTEMPTS = 10
"""Cuts in a row that bring nothing new before it is given up: about 20 s of waiting, besides the requests' own."""


def download(client: Any, target: dict[str, str], start: int, stop: int | None) -> bytes:
    """Bytes from `start` up to `stop` (the end if None) of the object; none at or beyond its end, as of a file.

    After a cut it goes on where it stopped, on condition that the object is the same; else from the start.
    """
    parts: list[bytes] = []
    same: dict[str, str] = {}
    barren = 0
    while True:
        try:
            answer = client.get_object(**target, **_range(start + sum(map(len, parts)), stop), **same)
        except ClientError as error:
            if code_of(error) in {"InvalidRange", "416"}:
                return b"".join(parts)
            if code_of(error) not in PRECONDITION:
                raise
            parts, same = [], {}
            continue
        same = {"IfMatch": answer["ETag"]}
        pieces, cut = _pieces(answer["Body"])
        parts += pieces
        if cut is None:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        barren = 0 if pieces else barren + 1
        if barren == BODY_ATTEMPTS:
            raise cut
        time.sleep(back_off(barren))


def _range(start: int, stop: int | None) -> dict[str, str]:
    if start == 0 and stop is None:
        return {}  # a range of an empty object is refused
    return {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}


def _pieces(body: Any) -> tuple[list[bytes], Exception | None]:
    """What a stream gives, and how it broke off, if it did."""
    pieces = []
    with contextlib.closing(body):
        try:
            while piece := body.read(READ_BYTES):
                pieces.append(piece)
        except BotoCoreError as error:
            return pieces, error
    return pieces, None
