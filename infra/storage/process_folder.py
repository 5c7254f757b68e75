"""Temporary folders of a process, which may be killed before it can remove them."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infra.storage.disk import names_tmpdir, tmpdir

SUFFIX = ".locked"
"""Distinguishes these folders from those that no process locks, such as those of earlier releases."""


class ProcessFolder:
    """A new folder below TMPDIR, locked by this process.

    Folders with the same prefix whose processes have ended are removed first.
    """

    def __init__(self, prefix: str) -> None:
        """Raises UserError if TMPDIR cannot be written."""
        with names_tmpdir():
            remove_left_folders(prefix)
            while True:
                self.path = Path(tempfile.mkdtemp(SUFFIX, prefix))
                with suppress(FileNotFoundError):  # another process has found the new folder without its lock
                    self._lock = _open_locked(self.path, fcntl.LOCK_EX)
                    if self.path.exists():
                        return
                    os.close(self._lock)

    def remove(self) -> None:
        """Removes the folder. Files that are memory-mapped stay readable until the process ends."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Yields a new `ProcessFolder`, and removes it after the body. Raises UserError, before the body, without one."""
    folder = ProcessFolder(prefix)
    try:
        yield folder.path
    finally:
        folder.remove()


def remove_left_folders(prefix: str) -> None:
    """Removes the folders with a prefix whose processes have ended. Those of other users stay."""
    for left in Path(tmpdir()).glob(f"{prefix}*{SUFFIX}"):
        with suppress(OSError):  # of another user, or removed meanwhile
            _remove_unlocked(left)


def _remove_unlocked(folder: Path) -> None:
    """Removes a folder unless its process runs. Raises OSError in that case, too: the lock is held."""
    lock = _open_locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _open_locked(folder: Path, operation: int) -> int:
    """Returns a descriptor of a folder with a lock that ends with the process."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, operation)
    except OSError:
        os.close(lock)
        raise
    return lock
