"""The object store in a local or mounted folder."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from infra.file_lock import wait_for_lock
from infra.paths import NO_OBJECT, exists, explained, is_dir, is_file
from infra.storage.base import Content, ObjectInfo
from infra.storage.disk import TEMPORARY_NAME, replace_file, temporary_file

_NO_HARD_LINKS = {
    *(errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS),
    *(errno.EMLINK, errno.EACCES, errno.EXDEV),
}
"""What `link` fails with where files have one name only (FAT, exFAT, some FUSE and SMB mounts).

The last three are such refusals, too, since the file to link was just created in the folder of the link: it has one
name, its folder is writable, and it is on the same file system.
"""


@dataclass(frozen=True)
class FolderStore:
    """Implements `base.Store`. The folder is created when the first object is written."""

    root: Path

    @property
    def uri(self) -> str:
        """Absolute path of the folder."""
        return str(self.root)

    def put_if_absent(self, name: str, data: Content) -> bool:
        """Writes a temporary file, then creates a hard link, which fails if the name exists.

        Where the file system has no hard links, a lock on the folder takes their place, which holds among the processes
        of one machine.
        """
        target = self._path(name)
        with explained(target), temporary_file(target, data) as temporary:
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                return _rename_if_absent(temporary, target)
        return True

    def replace(self, name: str, data: Content) -> None:
        """Writes a temporary file, then renames it over the name."""
        target = self._path(name)
        with explained(target):
            replace_file(target, data)

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Seeks and reads. FileNotFoundError for anything but a regular file, such as a folder or a pipe."""
        path = self._path(name)
        with explained(path):
            try:
                mode = path.stat().st_mode
            except OSError as error:
                if error.errno in NO_OBJECT:
                    raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
                raise
            if not stat.S_ISREG(mode):
                reason = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
                raise FileNotFoundError(reason, os.strerror(reason), str(path))
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(-1 if size is None else size)

    def info(self, name: str) -> ObjectInfo | None:
        """Queries the file's status."""
        with explained(Path(self.root, name)):
            try:
                status = self._path(name).stat()
            except OSError as error:
                if error.errno in NO_OBJECT:
                    return None
                raise
        return ObjectInfo(status.st_size, file_version_token(status)) if stat.S_ISREG(status.st_mode) else None

    def scan(self, prefix: str = "") -> Iterator[tuple[str, ObjectInfo]]:
        """Walks the folder and leaves out files whose names start with a dot, such as temporary ones."""
        for path in self._files():
            if path.name.startswith(".") or not (name := self._name(path)).startswith(prefix):
                continue
            with suppress(FileNotFoundError):  # deleted meanwhile
                with explained(path):
                    status = path.stat()
                yield name, ObjectInfo(status.st_size, file_version_token(status))

    def folders(self) -> Iterator[str]:
        """Reads the root."""
        with suppress(FileNotFoundError, NotADirectoryError), explained(self.root):
            yield from [path.name for path in self.root.iterdir() if is_dir(path)]

    def objects(self) -> dict[str, ObjectInfo]:
        """Sorts the listing."""
        return dict(sorted(self.scan()))

    def delete(self, name: str) -> None:
        """Unlinks the file."""
        path = self._path(name)
        with explained(path):
            path.unlink(missing_ok=True)

    def incomplete_uploads(self) -> list[str]:
        """Temporary files."""
        return sorted(self._name(path) for path in self._files() if TEMPORARY_NAME.fullmatch(path.name))

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

    def _files(self) -> Iterator[Path]:
        """Yields every file. Subfolders that this user may not list are left out, such as `lost+found` of a disk."""

        def skip(error: OSError) -> None:
            missing = error.errno in NO_OBJECT
            if missing or (isinstance(error, PermissionError) and error.filename != str(self.root)):
                return
            with explained(Path(error.filename)):
                raise error

        for folder, _, names in os.walk(self.root, onerror=skip):
            for path in (Path(folder, name) for name in names):
                if is_file(path):
                    yield path


def _rename_if_absent(source: Path, target: Path) -> bool:
    """Renames a file unless the target exists, under a lock on its folder."""
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        wait_for_lock(folder, target.parent)
        if exists(target):
            return False
        source.rename(target)
        return True
    finally:
        os.close(folder)


def file_version_token(status: os.stat_result) -> str:
    """Returns a file's size and modification time (ns)."""
    return f"{status.st_size}-{status.st_mtime_ns}"
