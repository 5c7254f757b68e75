"""Large objects go to S3 in parts: nothing is seen of them before the last call, which may be conditional."""

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.storage.s3_errors import CONFLICT, code_of

PART_BYTES = 16 << 20
"""Size of a part; S3 takes 5 MiB to 5 GiB and 10,000 parts, so that an object may have 160 GiB."""
PART_THREADS = 4
"""Parts on their way at once; each is copied, so that this many parts of memory are needed besides the object."""


def upload_parts(
    client: Any, target: dict[str, str], data: bytes, metadata: Mapping[str, str], condition: Mapping[str, str]
) -> None:
    """Writes an object in parts; `condition` goes to the last call. On any failure the parts are thrown away.

    A writer that is killed leaves them: `sweep` finds them.
    """
    for left in (2, 1, 0):
        try:
            _upload_once(client, target, data, metadata, condition)
        except ClientError as error:
            if code_of(error) not in CONFLICT or not left:
                raise
        else:
            return


def _upload_once(
    client: Any, target: dict[str, str], data: bytes, metadata: Mapping[str, str], condition: Mapping[str, str]
) -> None:
    upload = client.create_multipart_upload(**target, Metadata=dict(metadata))["UploadId"]
    try:
        parts = _send(client, target, upload, data)
        client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts}, **condition)
    except BaseException:
        _abort(client, target, upload)
        raise


def _send(client: Any, target: dict[str, str], upload: str, data: bytes) -> list[dict[str, Any]]:
    def send(number: int) -> dict[str, Any]:
        part = data[(number - 1) * PART_BYTES : number * PART_BYTES]
        sent = client.upload_part(**target, UploadId=upload, PartNumber=number, Body=part)
        return {"ETag": sent["ETag"], "PartNumber": number}

    pool = ThreadPoolExecutor(PART_THREADS)
    try:
        return list(pool.map(send, range(1, -(-len(data) // PART_BYTES) + 1)))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # no part may arrive after an abort


def _abort(client: Any, target: dict[str, str], upload: str) -> None:
    with contextlib.suppress(BotoCoreError, ClientError):  # what it followed is what the caller must hear of
        client.abort_multipart_upload(**target, UploadId=upload)
