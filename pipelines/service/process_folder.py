"""A temporary folder of a process of the service, which Ray Serve may kill before it can remove it."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "shan-service-"


class ProcessFolder:
    """A new folder below TMPDIR, locked by this process. Folders of processes that have ended are removed first."""

    def __init__(self) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with suppress(OSError):  # of another user, or removed meanwhile
                _remove_unlocked(left)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            with suppress(FileNotFoundError):  # another process has found the new folder without its lock
                self._lock = _open_locked(self.path, fcntl.LOCK_EX)
                if self.path.exists():
                    return
                os.close(self._lock)

    def remove(self) -> None:
        """Removes the folder. Files that are memory-mapped stay readable until the process ends."""
        shutil.rmtree(self.path, ignore_errors=True)


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
