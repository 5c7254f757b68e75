"""Files that appear complete or not at all, and errors that name the path and the fix."""

import errno
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors import UserError

_FULL = {errno.ENOSPC: "No space left on device", errno.EDQUOT: "Disk quota exceeded"}


@contextmanager
def names_full_disk(path: str | Path, fix: str = "free space there") -> Iterator[None]:
    """Raises UserError with `path` and `fix` if the body writes to a full disk; the system's error names neither."""
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        raise UserError(f"{path}: no space is left on this disk; {fix}, then re-run the command") from error


TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{8}", re.DOTALL)
"""Names of the files that `temporary_file` writes."""


@contextmanager
def temporary_file(target: Path, data: bytes | Iterable[bytes]) -> Iterator[Path]:
    """Writes a file beside `target`, whose folder is created if necessary, and removes it after the body.

    Its name is a TEMPORARY_NAME. Raises UserError for a full disk.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    with names_full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                for piece in (data,) if isinstance(data, bytes) else data:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def tmpdir() -> str:
    """Returns the folder of temporary files. Raises UserError if none can be written.

    Python's own error, of a missing file, would be taken for that of a missing object.
    """
    with names_tmpdir():
        return tempfile.gettempdir()


@contextmanager
def names_tmpdir() -> Iterator[None]:
    """Raises UserError with the fix if the body cannot find or make a temporary folder."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.filename else error.strerror or error
        raise UserError(
            f"no temporary folder can be made ({reason}); set TMPDIR to a writable folder with free space"
        ) from error


def replace_file(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Writes a file, whether or not it exists: readers see the old bytes or the new ones. A link stays one."""
    target = path.resolve() if os.path.islink(path) else path  # noqa: PTH114 - `is_symlink` raises for a closed folder
    with temporary_file(target, data) as temporary:
        temporary.replace(target)


def _is_full(error: Exception) -> bool:
    """Returns whether the disk is full. Safetensors reports that in an exception of its own, by the text only."""
    return getattr(error, "errno", None) in _FULL or any(text in str(error) for text in _FULL.values())
