"""Shards: reproducible WebDataset tars, written exactly once with a receipt beside them.

Members of a sample: `<key>.regions.npy` (float16, R x F), `<key>.boxes.npy` (float32, R x 4: x0 y0 x1 y1 in pixels of
the upright photo) and `<key>.json` (source, sha256, captions, width, height, classes, confidences, and attributes where
the detector predicts them). The tar has mtime 0, a fixed owner and a fixed order, so equal samples give equal bytes.
Arrays are plain .npy, so the receipt's offsets make the tar a random-access file.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.canonical_json import canonical_json
from infra.errors import UserError
from infra.storage.base import Store
from infra.storage.pieces import object_pieces
from pipelines.features.layout import receipt_name, tar_name
from pipelines.features.npy import HEADER_BYTES, save_npy
from pipelines.features.receipt import MEMBERS, Receipt, Rejection, Written, read_receipt
from pipelines.features.shard_reader import read_shard


@dataclass(frozen=True)
class Sample:
    """One photo's members before they are written."""

    key: str
    regions_RF: NDArray[np.float16]
    boxes_R4: NDArray[np.float32]
    meta: dict[str, Any]
    """The `.json` member."""
    version_token: str = ""


class OtherPhotosError(UserError):
    """A tar of this name exists without a receipt and contains other photos than planned.

    The run that wrote it died before its receipt, and a photo was replaced or removed since.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri} has no receipt and contains other photos than planned; delete it and run again")


def build_tar(samples: list[Sample]) -> bytes:
    """Returns the bytes of a shard, those of `webdataset.TarWriter(mtime=0)`; equal samples give equal bytes.

    Importing webdataset loads torch, 2 s of CPU time and 0.2 GiB in every process that writes.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for sample in samples:
            members = (save_npy(sample.regions_RF), save_npy(sample.boxes_R4), canonical_json(sample.meta))
            for extension, data in sorted(zip(MEMBERS, members, strict=True)):
                member = tarfile.TarInfo(f"{sample.key}.{extension}")
                member.size, member.mode, member.uname, member.gname = len(data), 0o444, "bigdata", "bigdata"
                tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def commit_shard(
    store: Store, shard: str, samples: list[Sample], rejected: list[Rejection], plan_digest: str = ""
) -> Receipt:
    """Writes samples as a shard; see `commit_tar`."""
    return commit_tar(store, shard, build_tar(samples), samples, rejected, plan_digest)


def commit_tar(
    store: Store, shard: str, data: bytes, samples: list[Sample], rejected: list[Rejection], plan_digest: str = ""
) -> Receipt:
    """Writes the tar of samples, then its receipt, each with one conditional put; returns the receipt that is stored.

    A second writer adopts what the first one wrote. A tar without a receipt is complete (a put is atomic): it is
    adopted if it contains the planned photos. Raises OtherPhotosError if it contains others.
    """
    data = _put_or_adopt(store, tar_name(shard), data)
    tokens = {sample.key: sample.version_token for sample in samples}
    receipt = Receipt(shard, len(data), sha256(data).hexdigest(), plan_digest, _written(data, tokens), tuple(rejected))
    if [(row.key, row.sha256) for row in receipt.written] != [(s.key, s.meta.get("sha256", "")) for s in samples]:
        raise OtherPhotosError(f"{store.uri}/{tar_name(shard)}")
    return _put_receipt(store, receipt)


def _put_or_adopt(store: Store, name: str, data: bytes) -> bytes:
    """Writes an object unless it exists, and returns the bytes that are stored.

    A part that exists may be gone when it is read, because another job has joined it into its shard in between. It is
    then written again; the join that follows finds the shard and deletes the part.
    """
    if store.put_if_absent(name, data):
        return data
    with suppress(FileNotFoundError):
        return store.read(name)
    return data if store.put_if_absent(name, data) else store.read(name)


def join_shards(store: Store, shard: str, parts: Sequence[Receipt], plan_digest: str) -> Receipt:
    """Writes the samples of several shards as one, as `commit_shard` would have written them, and returns its receipt.

    Of the tars, one is in memory at a time. Raises FileNotFoundError if one does not exist, UserError if one is
    corrupt, and OtherPhotosError as `commit_shard`.
    """
    digest, size, written = sha256(), 0, list[Written]()

    def pieces() -> Iterator[bytes]:
        nonlocal size
        for part in parts:
            data = read_shard(store, tar_name(part.shard), part.sha256)[: _members_end(part)]
            written.extend(replace(photo, offsets=_moved(photo, size)) for photo in part.written)
            yield data
            size += len(data)
            digest.update(data)
        end = bytes(-(-(size + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE - size)
        yield end
        size += len(end)
        digest.update(end)

    if not store.put_if_absent(tar_name(shard), pieces()):
        stored = sha256()
        for piece in object_pieces(store, tar_name(shard)):
            stored.update(piece)
        if stored.digest() != digest.digest():
            raise OtherPhotosError(f"{store.uri}/{tar_name(shard)}")
    rejected = tuple(row for part in parts for row in part.rejected)
    return _put_receipt(store, Receipt(shard, size, digest.hexdigest(), plan_digest, tuple(written), rejected))


def _members_end(receipt: Receipt) -> int:
    """Returns where the last member of a tar ends, with its padding."""
    end = max((offset + size for photo in receipt.written for offset, size in photo.offsets), default=0)
    return -(-end // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _moved(photo: Written, distance: int) -> tuple[tuple[int, int], ...]:
    return tuple((offset + distance, size) for offset, size in photo.offsets)


def _put_receipt(store: Store, receipt: Receipt) -> Receipt:
    """Writes a receipt unless another writer has written the same; returns the one that is stored."""
    if store.put_if_absent(receipt_name(receipt.shard), receipt.to_json()):
        return receipt
    first = read_receipt(store, receipt.shard)
    if first is None or first.sha256 != receipt.sha256:  # it is corrupt, or belongs to a tar that was lost
        store.replace(receipt_name(receipt.shard), receipt.to_json())
        return receipt
    return first


def count_regions(size: int, feature_dim: int) -> int:
    """Returns the number of regions in a `regions.npy` of so many bytes."""
    return (size - HEADER_BYTES) // (feature_dim * np.dtype(np.float16).itemsize)


def _written(data: bytes, version_tokens: dict[str, str]) -> tuple[Written, ...]:
    """Describes the photos in the bytes of a tar."""
    extents: dict[str, dict[str, tuple[int, int]]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            extents.setdefault(key, {})[extension] = (member.offset_data, member.size)
    written = []
    for key, found in extents.items():
        offset, size = found["json"]
        meta = json.loads(data[offset : offset + size])
        offsets = tuple(found[member] for member in MEMBERS)
        written.append(Written(key, meta["source"], version_tokens.get(key, ""), meta.get("sha256", ""), offsets))
    return tuple(written)
