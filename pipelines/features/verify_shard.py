"""Checks one shard against its receipt, the index and the manifest. Errors are lines that start with the object."""

import errno
import io
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from infra.errors import StorageError
from infra.storage.base import Store
from pipelines.datasets.manifest import Photo
from pipelines.features.account import Account
from pipelines.features.index import IndexedShard
from pipelines.features.layout import receipt_name, tar_name
from pipelines.features.planned_photos import PlannedPhotos
from pipelines.features.receipt import MEMBERS, Receipt, Rejection, Written
from pipelines.features.verify_sample import Schema, read_meta, sample_errors

Photos = Mapping[str, Photo] | None
"""The manifest's photos of a shard by key; None if the manifest cannot be read."""


@dataclass(frozen=True)
class ShardReport:
    """What was found in one shard."""

    errors: list[str]
    account: Account | None
    """None if the receipt could not be read."""
    size: int
    """Bytes read of the tar."""


def verify_shard(store: Store, shard: IndexedShard, schema: Schema, planned: PlannedPhotos | None) -> ShardReport:
    """Reads a shard in full and checks it against its entry of the index, the schema and the manifest's photos."""
    tar, name = tar_name(shard.name), receipt_name(shard.name)
    errors: list[str] = []
    receipt = _read_receipt(store, name, errors)
    photos = planned.find([photo.key for photo in receipt.planned]) if planned is not None and receipt else None
    data = read_object(store, tar, errors)
    if data is not None:
        errors += [f"{tar}: {error}" for error in _checksum_errors(data, shard)]
    if receipt is not None:
        errors += [f"{name}: {error}" for error in _receipt_errors(receipt, shard, photos)]
    if receipt is not None and data is not None:
        errors += [f"{tar}: {error}" for error in _tar_errors(data, receipt, schema, photos)]
    return ShardReport(errors, Account.of(receipt) if receipt else None, len(data or b""))


def read_object(store: Store, name: str, errors: list[str]) -> bytes | None:
    """Returns an object's bytes; None, after adding the error, if it cannot be read."""
    with reported(name, errors):
        return store.read(name)
    return None


@contextmanager
def reported(name: str, errors: list[str]) -> Iterator[None]:
    """Adds an error for an object that does not exist or that its disk cannot read.

    The errors of a store that is unreachable, or that rejects the request, pass: the object may be valid.
    """
    try:
        yield
    except FileNotFoundError:
        errors.append(f"{name}: does not exist")
    except StorageError as error:
        errors.append(f"{name}: {disk_error(error)}")


def disk_error(error: StorageError) -> str:
    """Returns what is wrong with an object that its disk cannot read. Raises any other error of a store."""
    cause = error.__cause__
    if not isinstance(cause, OSError) or cause.errno != errno.EIO:
        raise error
    return f"cannot be read ({cause.strerror})"


def _read_receipt(store: Store, name: str, errors: list[str]) -> Receipt | None:
    data = read_object(store, name, errors)
    if data is None:
        return None
    try:
        return Receipt.from_json(data)
    except ValueError as error:
        errors.append(f"{name}: is not a valid receipt ({error})")
        return None


def _checksum_errors(data: bytes, shard: IndexedShard) -> Iterator[str]:
    if len(data) != shard.size:
        yield f"has {len(data)} bytes, the index has {shard.size}"
    elif sha256(data).hexdigest() != shard.sha256:
        yield "its content does not have the sha256 in the index"


def _receipt_errors(receipt: Receipt, shard: IndexedShard, photos: Photos) -> Iterator[str]:
    for field, value in vars(IndexedShard.of(receipt)).items():
        if getattr(shard, field) != value:
            yield f"its {field} is {value}, the index has {getattr(shard, field)}"
    split = shard.name.split("-")[1]
    for photo in receipt.planned if photos is not None else ():
        if (planned := photos.get(photo.key)) is None:  # type: ignore[union-attr]
            yield f"{photo.key} is not in the manifest"
        elif planned.split != split:
            yield f"{photo.key} belongs to split {planned.split} in the manifest"
        elif planned.source != photo.source:
            yield f"{photo.key} has the source '{photo.source}', the manifest has '{planned.source}'"
        if isinstance(photo, Rejection) and not photo.reason:
            yield f"{photo.key} is rejected without a reason"


def _tar_errors(data: bytes, receipt: Receipt, schema: Schema, photos: Photos) -> Iterator[str]:
    yield from _member_errors(data, receipt)
    for photo in receipt.written:
        regions, boxes, metadata = (data[offset : offset + size] for offset, size in photo.offsets)
        for error in sample_errors(regions, boxes, metadata, schema):
            yield f"{photo.key}.{error}"
        planned = photos.get(photo.key) if photos is not None else None
        for error in _origin_errors(read_meta(metadata), photo, planned):
            yield f"{photo.key}.{error}"


def _member_errors(data: bytes, receipt: Receipt) -> Iterator[str]:
    """The tar's members must be those of the receipt, at its offsets: photo by photo, each photo's members by name."""
    expected = [
        (f"{photo.key}.{member}", *extent)
        for photo in receipt.written
        for member, extent in sorted(zip(MEMBERS, photo.offsets, strict=True))
    ]
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            found = [(member.name, member.offset_data, member.size) for member in tar]
    except (tarfile.TarError, ValueError, OverflowError) as error:
        yield f"is not a readable tar ({error})"
        return
    for have, want in zip(found, expected, strict=False):
        if have != want:
            yield "has {} at {} with {} bytes, the receipt has {} at {} with {}".format(*have, *want)
            return
    if len(found) != len(expected):
        yield f"has {len(found)} members, the receipt has {len(expected)}"


def _origin_errors(meta: Mapping[str, Any], photo: Written, planned: Photo | None) -> Iterator[str]:
    if not meta:
        return
    for field in ("source", "sha256"):
        if meta.get(field, "") != getattr(photo, field):
            yield f"json has the {field} '{meta.get(field, '')}', the receipt has '{getattr(photo, field)}'"
    if planned is not None and meta.get("captions") != list(planned.captions):
        yield "json has other captions than the manifest"
