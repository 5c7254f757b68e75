"""The object store in an S3 bucket: AWS, or any server with conditional writes (SeaweedFS, MinIO, Ceph)."""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from infra.errors import UserError
from infra.storage import s3_client
from infra.storage.base import ObjectInfo
from infra.storage.s3_download import download
from infra.storage.s3_errors import PRECONDITION, code_of, explained
from infra.storage.s3_upload import upload_parts

MULTIPART_BYTES = 1 << 30
"""Larger objects are sent in parts (S3 takes 5 GiB at once). No smaller, for a conditional PUT has one winner; the
conditional end of an upload in parts has not everywhere: SeaweedFS 4.48 lets two that meet both win."""

_NEW = {"IfNoneMatch": "*"}
_ABSENT = {"NoSuchKey", "404"}


@dataclass(frozen=True)
class S3Store:
    """Implements `store.Store`. Holds no credentials: each process finds them where AWS clients look for them."""

    bucket: str
    prefix: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", self.bucket):
            raise UserError(f"s3://{self.bucket}: '{self.bucket}' is no name for a bucket; give s3://bucket/prefix")

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def create(self, name: str, data: bytes) -> bool:
        """A write on condition that there is no such key.

        A random mark in the metadata tells, where the store says that it is taken, whether it was taken by an earlier
        attempt of this very call whose answer was lost.
        """
        mark = secrets.token_hex(16)
        with explained(self.uri):
            if len(data) > MULTIPART_BYTES and self._mark(name) is not None:
                return False  # would be refused in the end; the condition still decides among those who start
            return self._write(name, data, mark, _NEW)

    def replace(self, name: str, data: bytes) -> None:
        """A write without condition."""
        with explained(self.uri):
            self._write(name, data, secrets.token_hex(16), {})

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """A request for a range. No bytes of an object that is there need but its head."""
        with explained(self.uri):
            try:
                if size == 0:
                    s3_client.client().head_object(**self._target(name))
                    return b""
                stop = None if size is None else offset + size
                return download(s3_client.client(), self._target(name), offset, stop)
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    raise FileNotFoundError(f"{self.uri}/{name}: no such object") from None
                raise

    def objects(self) -> dict[str, ObjectInfo]:
        """Keys below the prefix; the empty `folder/` keys that browsers leave are no objects."""
        found = {}
        with explained(self.uri):
            for item in self._paged("list_objects_v2", "Contents"):
                if item["Size"] or not item["Key"].endswith("/"):
                    found[item["Key"][len(self._below) :]] = ObjectInfo(item["Size"], item["ETag"].strip('"'))
        return dict(sorted(found.items()))

    def delete(self, name: str) -> None:
        """Deletes the key."""
        with explained(self.uri):
            s3_client.client().delete_object(**self._target(name))

    def sweep(self, remove: bool) -> list[str]:
        """Uploads in parts that were never finished; their parts are stored, and paid for, until they are aborted."""
        with explained(self.uri):
            left = [(item["Key"], item["UploadId"]) for item in self._paged("list_multipart_uploads", "Uploads")]
            for key, upload in left if remove else ():
                self._abort(key, upload)
        return sorted(key[len(self._below) :] for key, _ in left)

    @property
    def _below(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _target(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._below + name}

    def _write(self, name: str, data: bytes, mark: str, condition: dict[str, str]) -> bool:
        """False if the condition does not hold."""
        client, metadata = s3_client.client(), {"writer": mark}
        try:
            if len(data) > MULTIPART_BYTES:
                upload_parts(client, self._target(name), data, metadata, condition)
            else:
                client.put_object(**self._target(name), Body=data, Metadata=metadata, **condition)
        except ClientError as error:
            if code_of(error) not in PRECONDITION | {"NoSuchUpload"}:
                raise
            found = self._mark(name)
            if found == mark:
                return True
            if code_of(error) == "NoSuchUpload" and (found is None or not condition):
                raise  # swept by somebody while it was written
            return False
        return True

    def _mark(self, name: str) -> str | None:
        """The mark that an object's writer left, empty if none; None if there is no object."""
        try:
            return str(s3_client.client().head_object(**self._target(name))["Metadata"].get("writer", ""))
        except ClientError as error:
            if code_of(error) in _ABSENT:
                return None
            raise

    def _paged(self, operation: str, field: str) -> Iterator[dict[str, Any]]:
        pages = s3_client.client().get_paginator(operation).paginate(Bucket=self.bucket, Prefix=self._below)
        for page in pages:
            yield from page.get(field, ())

    def _abort(self, key: str, upload: str) -> None:
        try:
            s3_client.client().abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise
