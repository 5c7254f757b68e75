"""Receipts: the commit record of a shard, stored beside its tar. A shard is complete when its receipt exists."""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from operator import index
from typing import Any

from infra.canonical_json import canonical_json, load_object
from infra.map_ahead import map_ahead
from infra.storage.base import Store
from pipelines.features.layout import FORMAT, PART_NAME, SHARD_NAME, receipt_name

_THREADS = 16
MEMBERS = ("regions.npy", "boxes.npy", "json")
"""Members of a sample in the tar, each named `<key>.<member>`."""


@dataclass(frozen=True, slots=True)
class Written:
    """A photo that the shard contains: its origin, and where its members are."""

    key: str
    source: str
    version_token: str
    """Token of the photo's file just before it was read (`ObjectInfo.version_token`)."""
    sha256: str
    """Digest of the photo's file."""
    offsets: tuple[tuple[int, int], ...]
    """(offset, size) in bytes of each of `MEMBERS` within the tar."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A planned photo that the shard does not contain, and the reason."""

    key: str
    source: str
    reason: str
    version_token: str = ""
    sha256: str = ""
    """Digest of the photo's file; empty if it could not be read."""


@dataclass(frozen=True)
class Receipt:
    """What a shard contains, where, and which planned photos were rejected."""

    shard: str
    size: int
    """Bytes of the tar."""
    sha256: str
    """Digest of the tar."""
    plan_digest: str
    """`shard_plan.plan_digest` of the photos that the shard was planned with; empty for an import."""
    written: tuple[Written, ...]
    rejected: tuple[Rejection, ...]

    @property
    def split(self) -> str:
        """The split that the shard belongs to, taken from its name."""
        return self.shard.split("-")[1]

    @property
    def number(self) -> int:
        """The shard's number within its split, taken from its name."""
        return int(self.shard.split("-")[2])

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the photos in the shard, in order."""
        return tuple(photo.key for photo in self.written)

    @property
    def planned(self) -> "list[Written | Rejection]":
        """Every photo that the shard was planned with."""
        return [*self.written, *self.rejected]

    @cached_property
    def digest(self) -> str:
        """sha256 over the photos, without version tokens and rejection reasons, which a rerun may change."""
        written = [{**_fields(photo), "version_token": ""} for photo in self.written]
        rejected = [[photo.key, photo.source] for photo in self.rejected]
        return sha256(canonical_json({"written": written, "rejected": rejected})).hexdigest()

    def to_json(self) -> bytes:
        """Returns canonical JSON: equal receipts have equal bytes."""
        document = {"format": FORMAT, "count": len(self.written), **_fields(self)}
        return canonical_json(document | {name: [*map(_fields, document[name])] for name in ("written", "rejected")})

    @classmethod
    def from_json(cls, data: bytes) -> "Receipt":
        """Parses what `to_json` wrote. Raises ValueError with the reason for anything else."""
        document = load_object(data)
        try:
            receipt = cls._from_document(document)
            _ = receipt.digest  # raises ValueError for text that cannot be encoded
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"a field is missing or has the wrong type ({error})") from error
        return receipt

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> "Receipt":
        if document.pop("format", None) != FORMAT:
            raise ValueError(f"the format is not {FORMAT}")
        # Both become file names.
        is_name = SHARD_NAME.fullmatch(document["shard"]) or PART_NAME.fullmatch(document["shard"])
        if not is_name or not re.fullmatch("[0-9a-f]{64}", document["sha256"]):
            raise ValueError("`shard` or `sha256` is malformed")
        if document.pop("count") != len(document["written"]):
            raise ValueError("`count` differs from the number of written photos")
        for photo in (*document["written"], *document["rejected"]):
            if not all(type(value) is str for name, value in photo.items() if name != "offsets"):
                raise ValueError("a field of a photo is not text")
        for photo in document["written"]:
            photo["offsets"] = tuple((index(offset), index(size)) for offset, size in photo["offsets"])
            if len(photo["offsets"]) != len(MEMBERS):
                raise ValueError(f"photo {photo['key']} does not have {len(MEMBERS)} members")
        document["written"] = tuple(Written(**photo) for photo in document["written"])
        document["rejected"] = tuple(Rejection(**photo) for photo in document["rejected"])
        return cls(**document)


def read_receipt(store: Store, shard: str) -> Receipt | None:
    """Returns the receipt of a shard, or None if it is missing or corrupt."""
    return _parsed(_read(store, shard))


def read_receipts(store: Store, shards: Iterable[str]) -> Iterator[Receipt | None]:
    """Yields the receipt of each shard, in order; None for one that is missing or corrupt.

    _THREADS threads read a few ahead, because an object store has a high latency and serves many requests in parallel.
    They do not parse: threads that wait for Python's lock double the time of that.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from map(_parsed, map_ahead(pool, lambda shard: _read(store, shard), shards, 2 * _THREADS))


def _read(store: Store, shard: str) -> bytes:
    """Returns the bytes of a receipt; none if it is missing."""
    try:
        return store.read(receipt_name(shard))
    except FileNotFoundError:
        return b""


def _parsed(data: bytes) -> Receipt | None:
    try:
        return Receipt.from_json(data)
    except ValueError:
        return None


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
