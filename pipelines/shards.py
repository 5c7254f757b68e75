"""One shard: a webdataset tar with a receipt beside it. A shard exists when its receipt does.

Members of a sample: `<key>.regions.npy` fp16 R x F, `<key>.boxes.npy` fp32 R x 4 (xyxy, pixels of the upright photo),
`<key>.json` (size, source, sha256, captions, classes, confidences). The tar is byte-reproducible: mtime 0, fixed
owner and order. Arrays are plain .npy without pickle, so the receipt's offsets make the tar a random-access file.
"""

import io
import json
import tarfile
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.store import Store

MEMBERS = ("regions.npy", "boxes.npy", "json")


@dataclass(frozen=True)
class Sample:
    """One photo's rows of a shard."""

    key: str
    regions_RF: NDArray[np.float16]
    boxes_R4: NDArray[np.float32]
    meta: dict[str, Any]


@dataclass(frozen=True)
class Rejection:
    """A planned photo that is not in the shard, and why."""

    key: str
    source: str
    reason: str


@dataclass(frozen=True)
class Receipt:
    """Proof that a shard is complete: what is in it, where, and what was rejected."""

    shard: str
    size: int
    """Bytes of the tar."""
    sha256: str
    keys: tuple[str, ...]
    offsets: tuple[tuple[tuple[int, int], ...], ...]
    """Per key, (offset, size) in bytes of each of `MEMBERS` within the tar."""
    rejected: tuple[Rejection, ...]

    def to_json(self) -> bytes:
        """Canonical JSON: the same receipt has the same bytes."""
        return canonical_json({"count": len(self.keys), **asdict(self)})

    @classmethod
    def from_json(cls, data: bytes) -> "Receipt":
        """The inverse of `to_json`."""
        document = json.loads(data)
        assert document.pop("count") == len(document["keys"]), f"receipt of {document['shard']} miscounts its keys"
        document["keys"] = tuple(document["keys"])
        document["offsets"] = tuple(tuple((o, s) for o, s in members) for members in document["offsets"])
        document["rejected"] = tuple(Rejection(**row) for row in document["rejected"])
        return cls(**document)


def canonical_json(document: dict[str, Any]) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces."""
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def tar_name(shard: str) -> str:
    """Object name of a shard's tar."""
    return f"{shard}.tar"


def receipt_name(shard: str) -> str:
    """Object name of a shard's receipt."""
    return f"{shard}.receipt.json"


def commit_shard(store: Store, shard: str, samples: list[Sample], rejected: list[Rejection]) -> Receipt:
    """Writes the tar, then its receipt, each by one conditional create; a writer that comes second adopts the first.

    A tar without a receipt was written whole by a run that died before its receipt, so it is taken as it stands.
    """
    data = build_tar(samples)
    if not store.create(tar_name(shard), data):
        data = store.read(tar_name(shard))
    receipt = _receipt(shard, data, rejected)
    planned = {sample.key for sample in samples} | {row.key for row in rejected}
    accounted = [*receipt.keys, *(row.key for row in receipt.rejected)]
    if len(accounted) != len(planned) or set(accounted) != planned:
        raise RuntimeError(
            f"{store.uri}/{tar_name(shard)}: {len(receipt.keys)} photos in it and {len(rejected)} rejected are not the "
            f"{len(planned)} planned; it was written from other photos: delete it and run again"
        )
    if not store.create(receipt_name(shard), receipt.to_json()):
        return Receipt.from_json(store.read(receipt_name(shard)))
    return receipt


def build_tar(samples: list[Sample]) -> bytes:
    """The bytes of a shard, the same for the same samples."""
    from webdataset import TarWriter

    buffer = io.BytesIO()
    with TarWriter(buffer, mtime=0) as writer:
        for sample in samples:
            members = (_npy(sample.regions_RF), _npy(sample.boxes_R4), canonical_json(sample.meta))
            writer.write({"__key__": sample.key, **dict(zip(MEMBERS, members, strict=True))})
    return buffer.getvalue()


def load_npy(data: bytes) -> NDArray[Any]:
    """An array from .npy bytes; anything that would need pickle is refused."""
    return np.load(io.BytesIO(data), allow_pickle=False)


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _receipt(shard: str, data: bytes, rejected: list[Rejection]) -> Receipt:
    places: dict[str, dict[str, tuple[int, int]]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            places.setdefault(key, {})[extension] = (member.offset_data, member.size)
    offsets = tuple(tuple(found[member] for member in MEMBERS) for found in places.values())
    return Receipt(shard, len(data), sha256(data).hexdigest(), tuple(places), offsets, tuple(rejected))
