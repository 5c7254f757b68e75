"""infra/storage/base.py."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing tells of an object."""

    size: int
    """Bytes."""
    version_token: str
    """Differs when the bytes differ: an ETag, or a file's size and time of change."""


class Store(Protocol):
    """What the pipelines need of an object store. Implementations are small and picklable: they travel to workers.

    Each method retries what can pass (a busy store, a cut connection) and raises OSError when it does not pass,
    UserError for what only the user can mend (credentials, a bucket that is not there).
    """

    def __hash__(self) -> int:
        """Equal stores are one root."""

    @property
    def uri(self) -> str:
        """The root that `open_store` was given, in its absolute form."""

    def create(self, name: str, data: bytes) -> bool:
        """Writes a new object; False, and nothing changed, if one of that name exists."""

    def replace(self, name: str, data: bytes) -> None:
        """Writes an object whether or not one exists; readers see the old bytes or the new."""

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes from `offset` (all the rest if None); FileNotFoundError if there is no such object."""

    def objects(self) -> dict[str, ObjectInfo]:
        """Every object below the root, by name in order; empty if the root does not exist."""

    def delete(self, name: str) -> None:
        """Removes an object; nothing happens if there is none."""

    def sweep(self, remove: bool) -> list[str]:
        """What killed writers left that is no object (temporary files, unfinished uploads), and removes it if told.

        Only for a root at which nobody writes.
        """
