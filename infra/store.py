"""The object store behind one small interface. A store is a root URI; objects below it are named with `/`.

An object appears whole or not at all, and `create` has one winner however many try: what S3 gives by a conditional
PUT, a folder gives by a hard link.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from infra.errors import UserError


class Store(Protocol):
    """What the pipelines need of an object store. Implementations are small and picklable: they travel to workers."""

    @property
    def uri(self) -> str:
        """The root that `open_store` was given, in its absolute form."""

    def create(self, name: str, data: bytes) -> bool:
        """Writes a new object; False, and nothing changed, if one of that name exists."""

    def replace(self, name: str, data: bytes) -> None:
        """Writes an object whether or not one exists; readers see the old bytes or the new."""

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes from `offset` (all the rest if None); FileNotFoundError if there is no such object."""

    def names(self) -> set[str]:
        """Every object below the root, by one listing; empty if the root does not exist."""


@dataclass(frozen=True)
class FolderStore:
    """A store in a local (or mounted) folder, made when the first object is written."""

    root: Path

    @property
    def uri(self) -> str:
        """Absolute path of the folder."""
        return str(self.root)

    def create(self, name: str, data: bytes) -> bool:
        """A full temporary file, then a hard link: the link fails if the name is taken."""
        temporary = self._write_temporary(name, data)
        try:
            os.link(temporary, self.root / name)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def replace(self, name: str, data: bytes) -> None:
        """A full temporary file, then a rename over the name."""
        self._write_temporary(name, data).replace(self.root / name)

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Seeks and reads."""
        with (self.root / name).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if size is None else size)

    def names(self) -> set[str]:
        """Walks the folder; temporary files of a killed writer (their names start with a dot) are no objects."""
        files = (path for path in self.root.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {path.relative_to(self.root).as_posix() for path in files}

    def _write_temporary(self, name: str, data: bytes) -> Path:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return temporary


def require_folder(path: str | Path, field: str) -> None:
    """UserError, naming the config field, unless a folder of that path is there or could be made."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    if not str(path) or not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{field} '{path}' cannot be written ({place} is no writable folder); choose another")


def open_store(uri: str) -> Store:
    """The store of a root URI: a folder's path or a `file://` URI. UserError for a scheme that is not supported."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return FolderStore(Path(uri).expanduser().absolute())
    if scheme == "file":
        return FolderStore(Path(rest))
    raise UserError(f"{uri}: no object store for {scheme}:// here; give a folder, such as build/features")
