"""The object store in an S3 bucket: AWS, or any server with conditional writes (SeaweedFS, MinIO, Ceph)."""

import re
import secrets
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import md5
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from botocore.exceptions import ClientError

from infra.errors import UserError
from infra.storage import s3_client
from infra.storage.base import Content, ObjectInfo
from infra.storage.disk import names_full_disk, tmpdir
from infra.storage.s3_download import download_object
from infra.storage.s3_errors import PRECONDITION, code_of, explained

MAX_OBJECT_BYTES = 5 << 30
"""S3's limit for a single PUT. Larger objects would need a multipart upload, and not every server makes the end of one
conditional: with SeaweedFS 4.48 two concurrent writers can both succeed. No object of this project comes near."""

SPOOL_BYTES = 16 << 20
"""Bytes of an object given in pieces that are in memory; a longer one is collected in a temporary file, because one PUT
needs its length and digest first, and may have to repeat it.
"""
_IF_ABSENT = {"IfNoneMatch": "*"}
_MISSING = {"NoSuchKey", "404"}


@dataclass(frozen=True)
class S3Store:
    """Implements `base.Store`. Holds no credentials: each process finds them where AWS clients look for them."""

    bucket: str
    prefix: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", self.bucket):
            raise UserError(f"s3://{self.bucket}: '{self.bucket}' is not a bucket name; give s3://bucket/prefix")

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def put_if_absent(self, name: str, data: Content) -> bool:
        """Writes on condition that the key does not exist. Raises UserError for more than MAX_OBJECT_BYTES.

        When a response is lost, the client repeats the request and the store answers that the key exists. A random
        idempotency token in the object's metadata then shows whether an earlier attempt of this call wrote it.
        """
        token = secrets.token_hex(16)
        with explained(self.uri):
            try:
                self._put(name, data, token, _IF_ABSENT)
            except ClientError as error:
                if code_of(error) not in PRECONDITION:
                    raise
                return self._token(name) == token
            return True

    def replace(self, name: str, data: Content) -> None:
        """Writes without a condition. Raises UserError for more than MAX_OBJECT_BYTES."""
        with explained(self.uri):
            self._put(name, data, secrets.token_hex(16), {})

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Requests a range; for no bytes at all, a HEAD shows whether the object exists."""
        with explained(self.uri):
            try:
                if size == 0:
                    s3_client.client().head_object(**self._target(name))
                    return b""
                stop = None if size is None else offset + size
                return download_object(s3_client.client(), self._target(name), offset, stop)
            except ClientError as error:
                if code_of(error) in _MISSING:
                    raise FileNotFoundError(f"{self.uri}/{name}: no such object") from None
                raise

    def info(self, name: str) -> ObjectInfo | None:
        """Requests the object's headers."""
        with explained(self.uri):
            try:
                head = s3_client.client().head_object(**self._target(name))
            except ClientError as error:
                if code_of(error) in _MISSING:
                    return None
                raise
        return ObjectInfo(head["ContentLength"], head["ETag"].strip('"'))

    def scan(self, prefix: str = "") -> Iterator[tuple[str, ObjectInfo]]:
        """Lists the keys below the prefix, without the empty `folder/` keys that S3 browsers create."""
        pages = self._paged("list_objects_v2", "Contents", prefix)
        while True:
            with explained(self.uri):
                item = next(pages, None)
            if item is None:
                return
            if item["Size"] or not item["Key"].endswith("/"):
                yield self._name(item), ObjectInfo(item["Size"], item["ETag"].strip('"'))

    def folders(self) -> Iterator[str]:
        """Lists the common prefixes of keys, up to the next `/`."""
        with explained(self.uri):
            prefixes = [str(item["Prefix"]) for item in self._paged("list_objects_v2", "CommonPrefixes", Delimiter="/")]
        yield from (prefix[len(self._below) :].rstrip("/") for prefix in prefixes)

    def objects(self) -> dict[str, ObjectInfo]:
        """Sorts the listing."""
        return dict(sorted(self.scan()))

    def delete(self, name: str) -> None:
        """Deletes the key."""
        with explained(self.uri):
            s3_client.client().delete_object(**self._target(name))

    def incomplete_uploads(self) -> list[str]:
        """Multipart uploads below the prefix. This store starts none, but other tools do, and S3 bills their parts."""
        with explained(self.uri):
            return sorted(map(self._name, self._paged("list_multipart_uploads", "Uploads")))

    def abort_incomplete_uploads(self) -> list[str]:
        """Aborts them, which deletes their parts."""
        with explained(self.uri):
            uploads = list(self._paged("list_multipart_uploads", "Uploads"))
            for upload in uploads:
                self._abort(upload["Key"], upload["UploadId"])
        return sorted(map(self._name, uploads))

    @property
    def _below(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _name(self, item: dict[str, Any]) -> str:
        return str(item["Key"])[len(self._below) :]

    def _target(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._below + name}

    def _put(self, name: str, data: Content, token: str, condition: dict[str, str]) -> None:
        if not isinstance(data, bytes):
            with SpooledTemporaryFile(SPOOL_BYTES, dir=tmpdir()) as file:
                with names_full_disk(f"{self.uri}/{name}", "free space for temporary files (TMPDIR)"):
                    for piece in data:
                        file.write(piece)
                self._put_body(name, file, file.tell(), token, condition)
        else:
            self._put_body(name, data, len(data), token, condition)

    def _put_body(self, name: str, body: bytes | IO[bytes], size: int, token: str, condition: dict[str, str]) -> None:
        if size > MAX_OBJECT_BYTES:
            raise UserError(
                f"{self.uri}/{name}: the object has {size:,} bytes and S3 takes at most {MAX_OBJECT_BYTES:,} in "
                "one PUT; write smaller objects (for shards, fewer photos each)"
            )
        # Without the digest, SeaweedFS 4.48 stores an empty object when a connection ends after the headers of a PUT.
        digest = _md5(body)
        s3_client.client().put_object(
            **self._target(name), Body=body, ContentMD5=digest, Metadata={"writer": token}, **condition
        )

    def _token(self, name: str) -> str:
        """Returns the idempotency token of an object; empty if it has none or was deleted meanwhile."""
        try:
            return str(s3_client.client().head_object(**self._target(name))["Metadata"].get("writer", ""))
        except ClientError as error:
            if code_of(error) in _MISSING:
                return ""
            raise

    def _paged(self, operation: str, field: str, prefix: str = "", **options: str) -> Iterator[dict[str, Any]]:
        paginator = s3_client.client().get_paginator(operation)
        pages = paginator.paginate(Bucket=self.bucket, Prefix=self._below + prefix, **options)
        for page in pages:
            yield from page.get(field, ())

    def _abort(self, key: str, upload: str) -> None:
        try:
            s3_client.client().abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise


def _md5(body: bytes | IO[bytes]) -> str:
    """Returns the digest of a body for the header Content-MD5. Leaves a file at its start."""
    digest = md5(usedforsecurity=False)
    if isinstance(body, bytes):
        digest.update(body)
    else:
        body.seek(0)
        while piece := body.read(1 << 20):
            digest.update(piece)
        body.seek(0)
    return b64encode(digest.digest()).decode()
