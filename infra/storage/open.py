"""Opens the object store of a URI, and checks output paths before any work begins."""

import os
from pathlib import Path

from infra.errors import UserError
from infra.paths import absolute, exists, is_dir, is_file
from infra.storage.base import Store

RAY_WORKING_DIRS = "working_dir_files"
"""Folder in which Ray keeps the working directories of submitted jobs (ray/_private/runtime_env/working_dir.py)."""


def require_folder(location: str | Path, name: str) -> None:
    """Raises UserError unless the location is a URI, or durable and is, or can become, a writable folder.

    `name` is the option or field in messages. A bucket is checked at the first write.
    """
    require_durable_path(location, name)
    path = absolute(location, name)
    if not path.startswith("/"):
        return
    existing = Path(path)
    while not os.path.exists(existing):  # noqa: PTH110 - the folder that may not be entered is the one to name
        existing = existing.parent
    if not is_dir(existing) or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{name} '{location}' cannot be written ({existing} is not a writable folder); choose another")


def require_writable_file(path: Path, name: str) -> None:
    """Raises UserError if a file cannot be written at a path of this machine. `name` is the option in messages."""
    require_folder(path.parent, name)
    if is_dir(path):
        raise UserError(f"{name} '{path}' is a folder; give a file in it")
    if exists(path) and not is_file(path):  # which a new file would replace
        raise UserError(f"{name} '{path}' is a device, pipe or socket; give a file")


def require_durable_path(location: str | Path, name: str) -> None:
    """Raises UserError, naming the option or field, for a path below the folder of a submitted job.

    Such a path is in the copy of the code that Ray makes on one node and deletes after the job.
    """
    path = absolute(location, name)
    if path.startswith("/") and RAY_WORKING_DIRS in Path(path).parts:
        raise UserError(
            f"{name} '{location}' would be deleted with this submitted job's folder; give a URI, or an absolute path "
            "that all nodes share"
        )


def open_store(uri: str) -> Store:
    """Returns the store of a root: a folder's path, `file://` or `s3://bucket/prefix`.

    Opens no connection. Raises UserError for any other scheme, and for a URI that has lost a slash.
    """
    from infra.storage.folder import FolderStore

    location = absolute(uri)
    if location.startswith("/"):
        return FolderStore(Path(location))
    scheme, separator, rest = location.partition("://")
    if not separator:
        raise UserError(
            f"{uri}: has one slash after the scheme; give a URI as text, since pathlib.Path removes a slash"
        )
    if scheme == "s3":
        from infra.storage.s3 import S3Store  # boto3 is imported only where it is used

        bucket, _, prefix = rest.partition("/")
        return S3Store(bucket, prefix.strip("/"))
    raise UserError(f"{uri}: {scheme}:// is not supported; give a folder or s3://bucket/prefix")
