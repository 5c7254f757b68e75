"""Reads single members of an uncompressed tar file in any store.

Each worker scans a tar file once for the offsets of its members; every member is then a single ranged read.
"""

import io
import posixpath
import tarfile
from functools import lru_cache
from typing import Any

from infra.storage.base import Store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.spellings import spellings


def read_member(store: Store, tar: str, member: str, max_bytes: int) -> bytes:
    """Returns the first `max_bytes` bytes of a member, which may be spelled otherwise in the tar (`spellings`).

    Raises PhotoError if the tar file does not exist, is not an uncompressed tar, is truncated, or lacks the member.
    """
    try:
        locations = _member_locations(store, tar)
    except (FileNotFoundError, tarfile.TarError) as error:
        raise PhotoError("its tar file does not exist or is not an uncompressed tar") from error
    member = posixpath.normpath(member)
    location = next((locations[name] for name in (member, *spellings(member)) if name in locations), None)
    if location is None:
        raise PhotoError("not in its tar file")
    offset, size = location
    data = store.read(tar, offset, min(size, max_bytes))
    if len(data) < min(size, max_bytes):
        raise PhotoError("its tar file is truncated")
    return data


@lru_cache(maxsize=8)
def _member_locations(store: Store, tar: str) -> dict[str, tuple[int, int]]:
    """Returns offset and size of each file in an uncompressed tar, from one pass over it."""
    with tarfile.open(fileobj=io.BufferedReader(_RangedFile(store, tar), 2**20), mode="r:") as opened:
        return {posixpath.normpath(entry.name): (entry.offset_data, entry.size) for entry in opened if entry.isfile()}


class _RangedFile(io.RawIOBase):
    """A seekable file whose reads are ranged reads of an object."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name, self._position = store, name, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence != io.SEEK_END, "tarfile never seeks from the end"
        self._position = offset if whence == io.SEEK_SET else self._position + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._store.read(self._name, self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
