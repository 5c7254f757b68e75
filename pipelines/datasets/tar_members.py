"""Members of a tar on any store as photos: its directory is read once a worker, then each member by its range."""

import io
import posixpath
import tarfile
from functools import lru_cache
from typing import Any

from infra.storage.base import Store
from pipelines.datasets.decode import PhotoError


def read_member(store: Store, tar: str, member: str, most: int) -> bytes:
    """At most `most` bytes of a member; PhotoError if the tar is not there, is none or has no such file."""
    try:
        place = _directory(store, tar).get(posixpath.normpath(member))
    except (FileNotFoundError, tarfile.TarError) as error:
        raise PhotoError("its tar is not there or is no uncompressed tar") from error
    if place is None:
        raise PhotoError("not in its tar")
    offset, size = place
    data = store.read(tar, offset, min(size, most))
    if len(data) < min(size, most):
        raise PhotoError("its tar is cut off")
    return data


@lru_cache(maxsize=8)
def _directory(store: Store, tar: str) -> dict[str, tuple[int, int]]:
    """Offset and size of every file of an uncompressed tar, by one pass over it."""
    with tarfile.open(fileobj=io.BufferedReader(_Ranges(store, tar), 2**20), mode="r:") as opened:
        return {posixpath.normpath(entry.name): (entry.offset_data, entry.size) for entry in opened if entry.isfile()}


class _Ranges(io.RawIOBase):
    """Ranged reads of an object as a seekable file."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name, self._at = store, name, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence != io.SEEK_END, "tarfile asks for no end"
        self._at = offset if whence == io.SEEK_SET else self._at + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._store.read(self._name, self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
