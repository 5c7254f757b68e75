"""The object store behind one small interface. A store is a root URI; objects below it are named with `/`.

An object appears whole or not at all, and `create` has one winner however many try: S3 gives that by a conditional
PUT, a folder by a hard link. `folder_store` and `s3_store` keep the same promises; one test suite holds them to it.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from infra.errors import UserError

SUBMITTED = "working_dir_files"
"""Folder in which Ray keeps the working directories of submitted jobs (ray/_private/runtime_env/working_dir.py)."""


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing tells of an object."""

    size: int
    """Bytes."""
    stamp: str
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


def require_folder(path: str | Path, field: str) -> None:
    """UserError, naming the config field, unless a folder of that path is there or could be made, and will stay."""
    require_lasting(path, field)
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    if not str(path) or not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{field} '{path}' cannot be written ({place} is no writable folder); choose another")


def require_lasting(path: str | Path, field: str) -> None:
    """UserError, naming the config field, for a relative path in a submitted job: it is below the copy of the code that
    Ray has made on one node and deletes."""
    place = str(path).removeprefix("file://")
    if "://" not in place and not Path(place).is_absolute() and SUBMITTED in Path.cwd().parts:
        raise UserError(
            f"{field} '{path}' would be deleted with this submitted job's folder; give a URI, or an absolute path that "
            "all nodes share"
        )


def open_store(uri: str) -> Store:
    """The store of a root URI: a folder's path, `file://` or `s3://bucket/prefix`. UserError for any other scheme."""
    from infra.folder_store import FolderStore

    scheme, separator, rest = uri.partition("://")
    if not separator:
        return FolderStore(Path(uri).expanduser().absolute())
    if scheme == "file":
        return FolderStore(Path(unquote(rest)))
    if scheme == "s3":
        from infra.s3_store import S3Store  # boto3 takes a second to import

        bucket, _, prefix = rest.partition("/")
        return S3Store(bucket, prefix.strip("/"))
    raise UserError(f"{uri}: no object store for {scheme}:// here; give a folder or s3://bucket/prefix")
