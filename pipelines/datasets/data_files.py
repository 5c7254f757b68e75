"""Lists the files of a data set below a folder, whose links are followed, or below a prefix of a bucket."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from infra.errors import AccessDeniedError
from infra.log import log
from infra.paths import NO_OBJECT, exists, explained
from infra.storage.folder import file_version_token
from infra.storage.open import open_store


def data_files(location: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields name and version token of every file whose name starts with `prefix`, in any order.

    Files and folders whose names start with a dot are left out.

    A linked folder is listed as the folder that it names, unless that one was listed before or contains the location. A
    link to nothing has an empty version token. Prints how many folders are left out because this user may not read
    them. Raises StorageError for a disk or store that fails, and for a location that may not be read.
    """
    if location.startswith("/"):
        yield from (file for file in _files(Path(location)) if file[0].startswith(prefix))
        return
    for name, info in open_store(location).scan(prefix):
        if not f"/{name}".count("/."):
            yield name, info.version_token


def _files(root: Path) -> Iterator[tuple[str, str]]:
    """Yields the files of a folder: first those of all folders in it, then those of linked folders."""
    with explained(root):
        entered = {_identity(folder.stat()) for folder in root.resolve().parents if exists(folder)}
    folders, links, closed = [root], list[Path](), list[str]()
    while folders or links:
        links.sort(reverse=True)
        is_linked = not folders
        folder = (folders or links).pop()
        try:
            entries = _entries(folder, entered, is_linked)
        except AccessDeniedError:
            if folder == root:
                raise
            closed.append(str(folder))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
                continue
            status = _status(path)
            if status is not None and stat.S_ISDIR(status.st_mode):
                links.append(path)
            elif entry.is_symlink() if status is None else _is_file(status):
                yield path.relative_to(root).as_posix(), file_version_token(status) if status else ""
    if closed:
        log.info(
            f"{len(closed)} folders are left out, since this user may not read them (first {min(closed)}); grant read "
            "permission, or remove them"
        )


def _entries(folder: Path, entered: set[tuple[int, int]], is_linked: bool) -> list[os.DirEntry[str]]:
    """Returns the entries of a folder; none of a linked one that was entered before, and of a deleted one."""
    try:
        with explained(folder):
            identity = _identity(folder.stat())
            if is_linked and identity in entered:
                return []
            entered.add(identity)
            with os.scandir(folder) as entries:
                return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _status(path: Path) -> os.stat_result | None:
    """Returns the status of what a path names; None if it names nothing."""
    with explained(path):
        try:
            return path.stat()
        except OSError as error:
            if error.errno in NO_OBJECT:
                return None
            raise


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_file(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)
