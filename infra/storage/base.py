"""The object store's interface. A store is a root URI; the names of objects below it are separated by `/`.

An object appears complete or not at all, and exactly one of any number of concurrent `put_if_absent` calls for a name
succeeds. S3 gives that by a conditional PUT, a folder by a hard link or a lock. One test suite
(tests/infra/storage/test_base.py) runs against both implementations. `open.open_store` opens the store of a URI.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ObjectInfo:
    """An object as a listing describes it."""

    size: int
    """Bytes."""
    version_token: str
    """Differs when the bytes differ: the ETag of an S3 object, the size and modification time of a file."""


Content = bytes | Iterable[bytes]
"""Bytes of an object, or an iterable of pieces, of which only one is in memory at a time."""


class Store(Protocol):
    """The operations that the pipelines need. Implementations are small and picklable, so they travel to workers.

    Every method retries transient errors (a busy store, a dropped connection). It raises StorageError (an OSError)
    for an error that persists and UserError for one that only the user can fix (credentials, a missing bucket, a full
    disk).
    """

    def __hash__(self) -> int:
        """Stores of the same root are equal and have the same hash."""

    @property
    def uri(self) -> str:
        """The root that `open_store` was given, as an absolute URI or path."""

    def put_if_absent(self, name: str, data: Content) -> bool:
        """Writes a new object and returns True. Returns False, and changes nothing, if the name exists.

        Pieces are all taken before the object appears, and also if the name exists.
        """

    def replace(self, name: str, data: Content) -> None:
        """Writes an object, whether or not the name exists. Readers see the old bytes or the new ones, never a mix."""

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Returns up to `size` bytes from `offset` on (None: up to the end). FileNotFoundError for a missing object."""

    def info(self, name: str) -> ObjectInfo | None:
        """Returns one object as a listing describes it; None for a missing object."""

    def scan(self, prefix: str = "") -> Iterator[tuple[str, ObjectInfo]]:
        """Yields every object below the root whose name starts with `prefix`, in any order and page by page."""

    def folders(self) -> Iterator[str]:
        """Yields the names of the folders at the root, in any order, without a listing of their objects."""

    def objects(self) -> dict[str, ObjectInfo]:
        """Returns every object below the root, sorted by name; empty for a root that does not exist."""

    def delete(self, name: str) -> None:
        """Deletes an object. A missing object is not an error."""

    def incomplete_uploads(self) -> list[str]:
        """Returns the unfinished uploads of interrupted writers: temporary files, or a bucket's multipart uploads."""

    def abort_incomplete_uploads(self) -> list[str]:
        """Removes what `incomplete_uploads` returns, and returns it. Never call it while another process writes."""


def put_if_changed(store: Store, name: str, data: bytes) -> None:
    """Writes an object unless it has these bytes already, so that a rerun of a finished job writes nothing."""
    try:
        if store.read(name) == data:
            return
    except FileNotFoundError:
        pass
    store.replace(name, data)
