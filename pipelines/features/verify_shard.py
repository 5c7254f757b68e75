"""Whether one shard is what its receipt, the index and the manifest say. A fault is a line that names the object."""

import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from infra.storage.base import Store
from pipelines.datasets.manifest import Photo
from pipelines.features.feature_set import index_row
from pipelines.features.shards import MEMBERS, SHARD_NAME, Receipt, Rejection, Written, receipt_name, tar_name
from pipelines.features.verify_sample import Promise, read_meta, sample_faults


@dataclass(frozen=True)
class ShardReport:
    """What was found in one shard."""

    faults: list[str]
    receipt: Receipt | None
    """None if it could not be read."""
    size: int
    """Bytes read of the tar."""


def check_shard(
    store: Store, row: Mapping[str, Any], promise: Promise, planned: Mapping[str, Photo] | None
) -> ShardReport:
    """Reads a shard whole and holds it against its `row` of the index and the manifest's photos by key (None if the
    manifest cannot be read, which is a fault of its own).
    """
    name = row["name"]
    faults: list[str] = []
    if not SHARD_NAME.fullmatch(name):
        return ShardReport([f"index: '{name}' is no name of a shard"], None, 0)
    receipt = _read_receipt(store, name, faults)
    data = read_object(store, tar_name(name), faults)
    if data is not None:
        faults += [
            f"{tar_name(name)}: {fault}" for fault in _sum_faults(data, row["bytes"], row["sha256"], "the index")
        ]
    if receipt is None:
        return ShardReport(faults, None, len(data or b""))
    faults += [f"{receipt_name(name)}: {fault}" for fault in _receipt_faults(receipt, row, planned)]
    if data is not None:
        faults += [f"{tar_name(name)}: {fault}" for fault in _tar_faults(data, receipt, promise, planned)]
    return ShardReport(faults, receipt, len(data or b""))


def read_object(store: Store, name: str, faults: list[str]) -> bytes | None:
    """An object's bytes; None, and the fault noted, if there are none to be had."""
    try:
        return store.read(name)
    except FileNotFoundError:
        faults.append(f"{name}: is not there")
    except OSError as error:
        faults.append(f"{name}: cannot be read ({error.strerror or error})")
    return None


def _read_receipt(store: Store, name: str, faults: list[str]) -> Receipt | None:
    data = read_object(store, receipt_name(name), faults)
    if data is None:
        return None
    try:
        return Receipt.from_json(data)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        faults.append(f"{receipt_name(name)}: is no receipt of ours ({error!r})")
        return None


def _sum_faults(data: bytes, size: int, digest: str, says: str) -> Iterator[str]:
    if len(data) != size:
        yield f"has {len(data)} bytes, {says} says {size}"
    elif sha256(data).hexdigest() != digest:
        yield f"its bytes are not those of which {says} has the sha256"


def _receipt_faults(receipt: Receipt, row: Mapping[str, Any], planned: Mapping[str, Photo] | None) -> Iterator[str]:
    for field, value in index_row(receipt).items():
        if row.get(field) != value:
            yield f"its {field} is {value}, the index says {row.get(field)}"
    split = row["name"].split("-")[1]
    for photo in receipt.planned if planned is not None else ():
        if (wanted := planned.get(photo.key)) is None:  # type: ignore[union-attr]
            yield f"{photo.key} is not in the manifest"
        elif wanted.split != split:
            yield f"{photo.key} is of split {wanted.split} in the manifest"
        elif wanted.source != photo.source:
            yield f"{photo.key} has the source '{photo.source}', the manifest says '{wanted.source}'"
        if isinstance(photo, Rejection) and not photo.reason:
            yield f"{photo.key} is rejected without a reason"


def _tar_faults(data: bytes, receipt: Receipt, promise: Promise, planned: Mapping[str, Photo] | None) -> Iterator[str]:
    yield from _member_faults(data, receipt)
    for photo in receipt.written:
        regions, boxes, record = (data[offset : offset + size] for offset, size in photo.offsets)
        for fault in sample_faults(regions, boxes, record, promise):
            yield f"{photo.key}.{fault}"
        wanted = planned.get(photo.key) if planned is not None else None
        for fault in _origin_faults(read_meta(record), photo, wanted):
            yield f"{photo.key}.{fault}"


def _member_faults(data: bytes, receipt: Receipt) -> Iterator[str]:
    """The tar's members are those of the receipt, photo by photo in its order (a photo's by name), where it says."""
    wanted = [
        (f"{photo.key}.{member}", *place)
        for photo in receipt.written
        for member, place in sorted(zip(MEMBERS, photo.offsets, strict=True))
    ]
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            found = [(member.name, member.offset_data, member.size) for member in tar]
    except (tarfile.TarError, ValueError, OverflowError) as error:
        yield f"is no readable tar ({error})"
        return
    for have, want in zip(found, wanted, strict=False):
        if have != want:
            yield "has {} at {} of {} bytes where the receipt has {} at {} of {}".format(*have, *want)
            return
    if len(found) != len(wanted):
        yield f"has {len(found)} members, the receipt names {len(wanted)}"


def _origin_faults(meta: Mapping[str, Any], photo: Written, wanted: Photo | None) -> Iterator[str]:
    if not meta:
        return
    for field in ("source", "sha256"):
        if meta.get(field, "") != getattr(photo, field):
            yield f"json has the {field} '{meta.get(field, '')}', the receipt says '{getattr(photo, field)}'"
    if wanted is not None and meta.get("captions") != list(wanted.captions):
        yield "json has captions that are not the manifest's"
