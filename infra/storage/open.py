"""The object store behind one small interface. A store is a root URI; objects below it are named with `/`.

An object appears whole or not at all, and `create` has one winner however many try: S3 gives that by a conditional
PUT, a folder by a hard link. `folder_store` and `s3_store` keep the same promises; one test suite holds them to it.
"""

import os
from pathlib import Path
from urllib.parse import unquote

from infra.errors import UserError
from infra.storage.base import Store

SUBMITTED = "working_dir_files"
"""Folder in which Ray keeps the working directories of submitted jobs (ray/_private/runtime_env/working_dir.py)."""


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
    from infra.storage.folder import FolderStore

    scheme, separator, rest = uri.partition("://")
    if not separator:
        return FolderStore(Path(uri).expanduser().absolute())
    if scheme == "file":
        return FolderStore(Path(unquote(rest)))
    if scheme == "s3":
        from infra.storage.s3 import S3Store

        bucket, _, prefix = rest.partition("/")
        return S3Store(bucket, prefix.strip("/"))
    raise UserError(f"{uri}: no object store for {scheme}:// here; give a folder or s3://bucket/prefix")
