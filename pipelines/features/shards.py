"""One shard: a webdataset tar with a receipt beside it. A shard exists when its receipt does.

Members of a sample: `<key>.regions.npy` fp16 R x F, `<key>.boxes.npy` fp32 R x 4 (xyxy, pixels of the upright photo)
and `<key>.json` (size, source, sha256, captions, classes, confidences; attributes where the detector gives them). The
tar is byte-reproducible: mtime 0, fixed owner and order. Arrays are plain .npy without pickle, so the receipt's offsets
make the tar a random-access file.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from operator import index
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.datasets.manifest import SPLITS

MEMBERS = ("regions.npy", "boxes.npy", "json")
SHARD_NAME = re.compile(rf"features-(?:{'|'.join(SPLITS)})-\d{{6,}}-[0-9a-f]{{8}}")
TAR_BLOCK = 512
"""Bytes of a member's header in a tar."""
_NPY_HEADER = 128
"""Bytes before the values of a .npy file of a small shape."""


@dataclass(frozen=True)
class Sample:
    """One photo's rows of a shard."""

    key: str
    regions_RF: NDArray[np.float16]
    boxes_R4: NDArray[np.float32]
    meta: dict[str, Any]
    version_token: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A photo that is in the shard: where it came from, what it was, and where its members are."""

    key: str
    source: str
    version_token: str
    """What the photo's listing said just before it was read (`ObjectInfo.version_token`)."""
    sha256: str
    """Of the photo's file."""
    offsets: tuple[tuple[int, int], ...]
    """(offset, size) in bytes of each of `MEMBERS` within the tar."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A planned photo that is not in the shard, and why."""

    key: str
    source: str
    reason: str
    version_token: str = ""
    sha256: str = ""
    """Of the photo's file; empty if it could not be read."""


@dataclass(frozen=True)
class Receipt:
    """Proof that a shard is complete: what is in it, where, and what was rejected."""

    shard: str
    size: int
    """Bytes of the tar."""
    sha256: str
    rows: str
    """`plan.rows_digest` of what it was planned of; empty for an import."""
    written: tuple[Written, ...]
    rejected: tuple[Rejection, ...]

    @property
    def split(self) -> str:
        """The split that the shard belongs to, by its name."""
        return self.shard.split("-")[1]

    @property
    def number(self) -> int:
        """The shard's number within its split, by its name."""
        return int(self.shard.split("-")[2])

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the photos in the shard, in order."""
        return tuple(photo.key for photo in self.written)

    @property
    def planned(self) -> "list[Written | Rejection]":
        """Every photo that the shard was planned of."""
        return [*self.written, *self.rejected]

    @property
    def digest(self) -> str:
        """sha256 over the photos, without version tokens and rejection reasons, which a rerun may change."""
        written = [{**asdict(photo), "version_token": ""} for photo in self.written]
        rejected = [[row.key, row.source] for row in self.rejected]
        return sha256(canonical_json({"written": written, "rejected": rejected})).hexdigest()

    def to_json(self) -> bytes:
        """Canonical JSON: the same receipt has the same bytes."""
        return canonical_json({"count": len(self.written), **asdict(self)})

    @classmethod
    def from_json(cls, data: bytes) -> "Receipt":
        """The inverse of `to_json`. Raises ValueError, LookupError, TypeError or AttributeError for anything else."""
        document = load_json(data)
        if document.pop("count") != len(document["written"]):
            raise ValueError(f"receipt of {document['shard']} miscounts its photos")
        if not SHARD_NAME.fullmatch(document["shard"]) or not re.fullmatch("[0-9a-f]{64}", document["sha256"]):
            raise ValueError("a receipt names no shard of ours")  # both become file names
        for row in document["written"]:
            row["offsets"] = tuple((index(offset), index(size)) for offset, size in row["offsets"])
            if len(row["offsets"]) != len(MEMBERS):
                raise ValueError(f"receipt of {document['shard']} lacks members of {row['key']}")
        document["written"] = tuple(Written(**row) for row in document["written"])
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


class OtherPhotosError(UserError):
    """A tar of this name, without a receipt, holds other photos: its writer died, and since then one was replaced."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri} was written by a run that died, of other photos; delete it and run again")


def commit_shard(store: Store, shard: str, samples: list[Sample], rejected: list[Rejection], rows: str = "") -> Receipt:
    """Writes the tar, then its receipt, each by one conditional create; a writer that comes second adopts the first.

    A tar without a receipt was written whole by a run that died before its receipt, or is being written by a second
    driver, so it is taken as it stands if it was made of the same photos. OtherPhotosError if it was not.
    """
    data = build_tar(samples)
    if not store.put_if_absent(tar_name(shard), data):
        data = store.read(tar_name(shard))
    receipt = _receipt(shard, data, {sample.key: sample.version_token for sample in samples}, rejected, rows)
    if [(row.key, row.sha256) for row in receipt.written] != [(s.key, s.meta.get("sha256", "")) for s in samples]:
        raise OtherPhotosError(f"{store.uri}/{tar_name(shard)}")
    if store.put_if_absent(receipt_name(shard), receipt.to_json()):
        return receipt
    first = read_receipt(store, shard)
    if first is None or first.sha256 != receipt.sha256:  # damaged, or of a tar that was lost since
        store.replace(receipt_name(shard), receipt.to_json())
        return receipt
    return first


def read_receipt(store: Store, shard: str) -> Receipt | None:
    """The receipt of a shard; None if there is none that can be read."""
    try:
        return Receipt.from_json(store.read(receipt_name(shard)))
    except UserError:
        raise
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return None


def load_json(data: bytes) -> dict[str, Any]:
    """A JSON object; ValueError for anything else."""
    try:
        document = json.loads(data)
    except RecursionError as error:
        raise ValueError("brackets within brackets") from error
    if not isinstance(document, dict):
        raise ValueError(f"a JSON {type(document).__name__}, no object")  # noqa: TRY004 a fault of the file
    return document


def read_shard(store: Store, tar: str, checksum: str) -> bytes:
    """A whole tar. UserError if it does not have its receipt's checksum."""
    data = store.read(tar)
    check_shard(data, f"{store.uri}/{tar}", checksum)
    return data


def check_shard(data: bytes | memoryview, uri: str, checksum: str) -> None:
    """UserError if the bytes of the tar at `uri` do not have its receipt's checksum."""
    if sha256(data).hexdigest() != checksum:
        raise UserError(
            f"{uri} is not what its receipt says; "
            "`python -m jobs.features verify` names what is damaged and how to mend it"
        )


class Shards(Protocol):
    """Checked shards of a feature set, wherever they are read from."""

    def read(self, name: str, offset: int, size: int) -> memoryview:
        """Bytes of a shard. UserError if it is damaged."""


class StoredShards:
    """Shards read whole from their store and checked, the last one kept: for passes over photos in order."""

    def __init__(self, store: Store, checksums: Mapping[str, str]) -> None:
        """Of these tars, by name."""
        self._store, self._checksums = store, checksums
        self._last: tuple[str, memoryview] | None = None

    def read(self, name: str, offset: int, size: int) -> memoryview:
        """Bytes of a shard. UserError if it is damaged."""
        if self._last is None or self._last[0] != name:
            self._last = (name, memoryview(read_shard(self._store, name, self._checksums[name])))
        return self._last[1][offset : offset + size]


def read_member(shards: Shards, tar: str, key: str, number: int, place: tuple[int, int]) -> memoryview:
    """Contents of one of a photo's `MEMBERS` at an (offset, size). UserError if another member is there.

    POSIX 1003.1 (ustar): the name is in bytes 0 to 99 of the header before it, the size in octal digits in bytes 124
    to 135.
    """
    name, (offset, size) = f"{key}.{MEMBERS[number]}", place
    block = shards.read(tar, max(offset - TAR_BLOCK, 0), TAR_BLOCK + size)
    header, contents = bytes(block[:TAR_BLOCK]), block[TAR_BLOCK:]
    if (
        header[:100] != name.encode()[:100].ljust(100, b"\0")
        or header[124:136] != b"%011o\0" % size
        or len(contents) != size
    ):
        raise UserError(
            f"{tar} does not hold {name} where its receipt says; `python -m jobs.features verify` names what is damaged"
        )
    return contents


def build_tar(samples: list[Sample]) -> bytes:
    """The bytes of a shard, the same for the same samples."""
    from webdataset import TarWriter

    buffer = io.BytesIO()
    with TarWriter(buffer, mtime=0) as writer:
        for sample in samples:
            members = (_npy(sample.regions_RF), _npy(sample.boxes_R4), canonical_json(sample.meta))
            writer.write({"__key__": sample.key, **dict(zip(MEMBERS, members, strict=True))})
    return buffer.getvalue()


def regions_in(photo: Written, width: int) -> int:
    """Number of regions of a photo in a shard, by the size of its member; `width`: numbers of a region."""
    return (photo.offsets[0][1] - _NPY_HEADER) // (width * np.dtype(np.float16).itemsize)


def load_npy(data: bytes) -> NDArray[Any]:
    """An array from .npy bytes. ValueError for anything else, and for what would need pickle."""
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy reads headers as Python: a damaged one raises what tokenizer and parser raise
        raise ValueError(f"no .npy: {error}") from error


def view_npy(data: memoryview) -> NDArray[Any]:
    """The same without a copy: a view of the bytes."""
    header = _header(bytes(data[:_NPY_HEADER]))
    if header is None:
        return load_npy(bytes(data))
    shape, dtype = header
    try:
        return np.ndarray(shape, dtype, data, _NPY_HEADER)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"no .npy: {error}") from error


@lru_cache(64)  # a set has as many as there are numbers of regions, and parsing takes longer than reading
def _header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """Shape and type of an array in C order behind a header of the usual size; None for any other."""
    header = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(header) != (1, 0):
            return None
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
    except Exception as error:  # as in `load_npy`
        raise ValueError(f"no .npy: {error}") from error
    return None if fortran or dtype.hasobject or header.tell() != _NPY_HEADER else (shape, dtype)


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _receipt(shard: str, data: bytes, version_tokens: dict[str, str], rejected: list[Rejection], rows: str) -> Receipt:
    places: dict[str, dict[str, tuple[int, int]]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            places.setdefault(key, {})[extension] = (member.offset_data, member.size)
    written = []
    for key, found in places.items():
        offset, size = found["json"]
        meta = json.loads(data[offset : offset + size])
        offsets = tuple(found[member] for member in MEMBERS)
        written.append(Written(key, meta["source"], version_tokens.get(key, ""), meta.get("sha256", ""), offsets))
    return Receipt(shard, len(data), sha256(data).hexdigest(), rows, tuple(written), tuple(rejected))


def read_receipts(store: Store, shards: Iterable[str]) -> dict[str, Receipt]:
    """Receipts by shard, in order, read by several threads at once: an object store answers slowly but to many.

    One that is not there or cannot be read is left out.
    """
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda shard: read_receipt(store, shard), shards)
        return {receipt.shard: receipt for receipt in found if receipt}
