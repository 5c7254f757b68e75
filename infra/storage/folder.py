"""The object store in a local or mounted folder."""

import errno
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from infra.storage.base import ObjectInfo


@dataclass(frozen=True)
class FolderStore:
    """Implements `base.Store`. The folder is created when the first object is written."""

    root: Path

    @property
    def uri(self) -> str:
        """Absolute path of the folder."""
        return str(self.root)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Writes a temporary file, then creates a hard link, which fails if the name exists."""
        temporary = self._write_temporary(name, data)
        try:
            os.link(temporary, self._path(name))
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Writes a temporary file, then renames it over the name."""
        self._write_temporary(name, data).replace(self._path(name))

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Seeks and reads."""
        with self._path(name).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if size is None else size)

    def info(self, name: str) -> ObjectInfo | None:
        """Queries the file's status."""
        try:
            status = self._path(name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return ObjectInfo(status.st_size, file_version_token(status)) if stat.S_ISREG(status.st_mode) else None

    def objects(self) -> dict[str, ObjectInfo]:
        """Walks the folder and leaves out temporary files, whose names start with a dot."""
        found = {}
        for path in self._files():
            if not path.name.startswith("."):
                status = path.stat()
                found[self._name(path)] = ObjectInfo(status.st_size, file_version_token(status))
        return dict(sorted(found.items()))

    def delete(self, name: str) -> None:
        """Unlinks the file."""
        self._path(name).unlink(missing_ok=True)

    def incomplete_uploads(self) -> list[str]:
        """Temporary files."""
        return sorted(self._name(path) for path in self._files() if path.name.startswith("."))

    def abort_incomplete_uploads(self) -> list[str]:
        """Deletes temporary files."""
        names = self.incomplete_uploads()
        for name in names:
            self.delete(name)
        return names

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _path(self, name: str) -> Path:
        """Raises FileNotFoundError for a path traversal: no object has such a name."""
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
    """Returns a file's size and modification time (ns)."""
    return f"{status.st_size}-{status.st_mtime_ns}"
