"""An object of a store as a seekable file, whose reads are ranged reads."""

import io
import time
from typing import Any

from infra.single_flight import single_flight_cache
from infra.storage.base import Store


def recent_version(store: Store, name: str) -> str:
    """Returns the version token of an object, at most a second old; "" if it does not exist.

    As a part of a cache's key, it makes a process that lives long read an object again that was replaced.
    """
    return _version_token(store, name, int(time.monotonic()))


@single_flight_cache(64)
def _version_token(store: Store, name: str, _second: int) -> str:
    info = store.info(name)
    return "" if info is None else info.version_token


class RangedFile(io.RawIOBase):
    """A readable, seekable file over an object."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name, self._position = store, name, 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a position. FileNotFoundError if its end is needed and the object does not exist."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}
        self._position = offset + (self._size() if whence == io.SEEK_END else start[whence])
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Reads up to `len(buffer)` bytes; FileNotFoundError if the object does not exist."""
        data = self._store.read(self._name, self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _size(self) -> int:
        info = self._store.info(self._name)
        if info is None:
            raise FileNotFoundError(self._name)
        return info.size
