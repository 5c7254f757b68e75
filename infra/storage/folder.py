"""The object store in a local or mounted folder."""

import errno
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from infra.storage.base import ObjectInfo


@dataclass(frozen=True)
class FolderStore:
    """Implements `store.Store`. The folder is made when the first object is written."""

    root: Path

    @property
    def uri(self) -> str:
        """Absolute path of the folder."""
        return str(self.root)

    def create(self, name: str, data: bytes) -> bool:
        """A full temporary file, then a hard link: the link fails if the name is taken."""
        temporary = self._write_temporary(name, data)
        try:
            os.link(temporary, self._path(name))
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def replace(self, name: str, data: bytes) -> None:
        """A full temporary file, then a rename over the name."""
        self._write_temporary(name, data).replace(self._path(name))

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Seeks and reads."""
        with self._path(name).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if size is None else size)

    def objects(self) -> dict[str, ObjectInfo]:
        """Walks the folder; temporary files of a killed writer are no objects."""
        found = {}
        for path in self._files():
            if not path.name.startswith("."):
                status = path.stat()
                found[path.relative_to(self.root).as_posix()] = ObjectInfo(status.st_size, file_version_token(status))
        return dict(sorted(found.items()))

    def delete(self, name: str) -> None:
        """Unlinks."""
        self._path(name).unlink(missing_ok=True)

    def sweep(self, remove: bool) -> list[str]:
        """Temporary files: their names start with a dot."""
        left = sorted(path for path in self._files() if path.name.startswith("."))
        for path in left if remove else ():
            path.unlink(missing_ok=True)
        return [path.relative_to(self.root).as_posix() for path in left]

    def _path(self, name: str) -> Path:
        """FileNotFoundError for a name that would lead out of the folder: no object has such a one."""
        if name.startswith("/") or ".." in name.split("/"):
            raise FileNotFoundError(errno.ENOENT, "No such object", name)
        return self.root / name

    def _files(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file()]

    def _write_temporary(self, name: str, data: bytes) -> Path:
        target = self._path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return temporary


def file_version_token(status: os.stat_result) -> str:
    """Size and time of change of a file: what rsync and make go by."""
    return f"{status.st_size}-{status.st_mtime_ns}"
