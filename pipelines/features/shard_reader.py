"""Reads members of shards by offset, after checking each tar against the sha256 in its receipt."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from infra.errors import CorruptDataError
from infra.source_tree import program
from infra.storage.base import Store
from infra.storage.pieces import object_pieces
from pipelines.features.receipt import MEMBERS, Written

TAR_BLOCK = 512
"""Bytes of a member's header in a tar."""


class Shards(Protocol):
    """Verified shards of a feature set, wherever they are read from."""

    def read(self, name: str, offset: int, size: int) -> memoryview:
        """Returns bytes of the tar `name`. Raises CorruptDataError if the tar is corrupt."""


@dataclass(frozen=True)
class ShardBlock:
    """Bytes of one tar that were read at once, such as the members of one photo."""

    tar: str
    start: int
    """Offset in the tar."""
    data: memoryview

    @classmethod
    def of_photo(cls, store: Store, tar: str, photo: Written) -> "ShardBlock":
        """Reads a photo's members and their headers. The tar is not verified."""
        start = max(min(offset for offset, _ in photo.offsets) - TAR_BLOCK, 0)
        end = max(offset + size for offset, size in photo.offsets)
        return cls(tar, start, memoryview(store.read(tar, start, end - start)))

    def read(self, name: str, offset: int, size: int) -> memoryview:
        """Returns bytes of the tar."""
        assert name == self.tar
        return self.data[max(offset - self.start, 0) : max(offset - self.start, 0) + size]


class StoredShards:
    """Shards read from their store. Each tar is read in full and verified, and the last one is kept in memory.

    Suits passes over photos in order.
    """

    def __init__(self, store: Store, checksums: Mapping[str, str]) -> None:
        """`checksums`: sha256 by name of the tar."""
        self._store, self._checksums = store, checksums
        self._last: tuple[str, memoryview] | None = None

    def read(self, name: str, offset: int, size: int) -> memoryview:
        """Returns bytes of the tar `name`. Raises CorruptDataError if the tar is corrupt or lost."""
        if self._last is None or self._last[0] != name:
            self._last = (name, memoryview(read_published_shard(self._store, name, self._checksums[name])))
        return self._last[1][offset : offset + size]


def read_shard(store: Store, tar: str, checksum: str) -> bytes:
    """Returns the bytes of a tar. Raises CorruptDataError if their sha256 is not `checksum`.

    Raises FileNotFoundError if it does not exist: while shards are written, another job may have joined or deleted it.
    """
    data = store.read(tar)
    verify_checksum(data, f"{store.uri}/{tar}", checksum)
    return data


def read_published_shard(store: Store, tar: str, checksum: str) -> bytes:
    """Returns the bytes of a tar of a published feature set. Raises CorruptDataError if it is corrupt or lost."""
    try:
        return read_shard(store, tar, checksum)
    except FileNotFoundError as error:
        raise lost_shard(f"{store.uri}/{tar}") from error


def lost_shard(uri: str) -> CorruptDataError:
    """Returns the error of a published feature set whose tar at `uri` does not exist."""
    return CorruptDataError(
        f"{uri} does not exist, but the index of its feature set lists it; run the extraction or import of the feature "
        "set again to write it again, or restore it from a backup"
    )


def verify_shard_pieces(store: Store, tar: str, checksum: str) -> None:
    """Raises CorruptDataError if the sha256 of a tar is not `checksum`. Only a piece of it is in memory at a time."""
    digest = sha256()
    for piece in object_pieces(store, tar):
        digest.update(piece)
    if digest.hexdigest() != checksum:
        raise _corrupt(f"{store.uri}/{tar}")


def verify_checksum(data: bytes | memoryview, uri: str, checksum: str) -> None:
    """Raises CorruptDataError if the sha256 of the tar at `uri` is not the one in its receipt."""
    if sha256(data).hexdigest() != checksum:
        raise _corrupt(uri)


def _corrupt(uri: str) -> CorruptDataError:
    return CorruptDataError(
        f"{uri} does not have the sha256 in its receipt; run `{program('features')} verify` to list every corrupt "
        "object, delete them and extract again"
    )


def read_sample_member(shards: Shards, tar: str, key: str, number: int, extent: tuple[int, int]) -> memoryview:
    """Returns the content of a photo's member `MEMBERS[number]`, which the receipt places at (offset, size).

    Raises CorruptDataError if the tar has another member there. Checked are the name (bytes 0 to 99) and the size
    (octal digits in bytes 124 to 135) in the header before the content: POSIX 1003.1, ustar.
    """
    name, (offset, size) = f"{key}.{MEMBERS[number]}", extent
    block = shards.read(tar, max(offset - TAR_BLOCK, 0), TAR_BLOCK + size)
    header, content = bytes(block[:TAR_BLOCK]), block[TAR_BLOCK:]
    if (
        header[:100] != name.encode()[:100].ljust(100, b"\0")
        or header[124:136] != b"%011o\0" % size
        or len(content) != size
    ):
        raise CorruptDataError(
            f"{tar} does not contain {name} at the offset in its receipt; run `{program('features')} verify` to list "
            "every corrupt object"
        )
    return content
