"""The one rule for paths and URIs in options, config fields and config files.

A path is taken literally: blanks, `%`, `?` and `#` are characters of its name. `~` and `~user` are home folders, and
other relative paths start at the current folder. A `file://` URI is percent-encoded and names a path. Other URIs stay
as they are.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from infra.errors import AccessDeniedError, StorageError, UserError
from infra.redaction import redact

_URI = re.compile(r"([a-z][a-z0-9+.-]+):(/.*)", re.IGNORECASE | re.DOTALL)
"""A scheme and what follows it. Of the two slashes, `pathlib.Path` keeps one."""

NO_OBJECT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
"""What `stat` fails with for a path that names no object."""
_MAX_NAME_BYTES = 255
"""Bytes of a file's or folder's name on the file systems of Linux and macOS."""


def absolute(location: str | Path, name: str = "path") -> str:
    """Returns an absolute path or a URI, which mean the same in every folder.

    `name` is the option or field in messages. Raises UserError for an empty location, a name that no file can have, a
    home folder that does not exist, and a `file://` URI that is not absolute.
    """
    text, shown = str(location), f"{name} '{redact(str(location))}'"
    match = _URI.fullmatch(text)
    if match and match[1].lower() != "file":
        return text
    if match:
        text = unquote(re.sub("^//(localhost)?(?=/)", "", match[2], flags=re.IGNORECASE))
        if text.startswith("//"):
            raise UserError(f"{shown} is not an absolute file URI; write file:///<path>, or a plain path")
    if not text:
        raise UserError(f"{name} is empty; give a path or a URI")
    if "\0" in text:
        raise UserError(f"{name} {text!r} contains a NUL character; remove it")
    try:
        longest = max(len(os.fsencode(part)) for part in text.split("/"))
    except UnicodeEncodeError as error:
        raise UserError(f"{name} {text!r} is not valid Unicode; correct it") from error
    if longest > _MAX_NAME_BYTES:
        raise UserError(f"{name} '{text[:60]}...' has a name of more than {_MAX_NAME_BYTES} bytes; shorten it")
    try:
        found = str(Path(text).expanduser().absolute())
    except RuntimeError as error:  # pathlib's error for `~user`
        raise UserError(f"{shown}: this user has no home folder; correct the path") from error
    return f"/{found.lstrip('/')}"  # pathlib keeps a second slash, which SQLite takes for the host of a URI


def local_path(location: str | Path, name: str = "path") -> Path:
    """Returns an absolute path on this machine. Raises UserError for a URI other than `file://`, and as `absolute`."""
    found = absolute(location, name)
    if _URI.fullmatch(found):
        raise UserError(f"{name} '{redact(str(location))}' is a URI; give a path on this machine")
    return Path(found)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raises StorageError for a disk or mount that fails, and AccessDeniedError without permission; both name the path.

    Errors about the names themselves (such as a missing file) pass.
    """
    try:
        yield
    except (StorageError, FileNotFoundError, NotADirectoryError, FileExistsError):
        raise
    except OSError as error:
        kind = AccessDeniedError if isinstance(error, PermissionError) else StorageError
        raise kind(
            f"{path}: cannot be accessed ({error.strerror or error}); check its permissions and its disk or mount, "
            "then re-run the command"
        ) from error


def exists(path: Path) -> bool:
    """Returns whether a path exists. Raises StorageError if that cannot be found out.

    `Path.exists` raises PermissionError below a folder that this user may not enter; so do `is_file` and `is_dir`.
    """
    return _mode(path) is not None


def is_file(path: Path) -> bool:
    """Returns whether a path is a regular file. Raises StorageError as `exists`."""
    return stat.S_ISREG(_mode(path) or 0)


def is_dir(path: Path) -> bool:
    """Returns whether a path is a folder. Raises StorageError as `exists`."""
    return stat.S_ISDIR(_mode(path) or 0)


def _mode(path: Path) -> int | None:
    """Returns the type and permissions of a path, or None if it names nothing."""
    with explained(path):
        try:
            return path.stat().st_mode
        except ValueError:  # a NUL character
            return None
        except OSError as error:
            if error.errno in NO_OBJECT:
                return None
            raise
