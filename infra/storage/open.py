"""Opens the object store of a URI, and checks output paths before any work begins."""

import os
from pathlib import Path
from urllib.parse import unquote

from infra.errors import UserError
from infra.storage.base import Store

RAY_WORKING_DIRS = "working_dir_files"
"""Folder in which Ray keeps the working directories of submitted jobs (ray/_private/runtime_env/working_dir.py)."""


def require_folder(path: str | Path, field: str) -> None:
    """Raises UserError, naming the config field, unless `path` is durable and is, or can become, a writable folder."""
    require_durable_path(path, field)
    existing = Path(path).absolute()
    while not existing.exists():
        existing = existing.parent
    if not str(path) or not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{field} '{path}' cannot be written ({existing} is not a writable folder); choose another")


def require_durable_path(path: str | Path, field: str) -> None:
    """Raises UserError, naming the config field, for a relative path inside a submitted job.

    Such a path is below the copy of the code that Ray makes on one node and deletes after the job.
    """
    plain = str(path).removeprefix("file://")
    if "://" not in plain and not Path(plain).is_absolute() and RAY_WORKING_DIRS in Path.cwd().parts:
        raise UserError(
            f"{field} '{path}' would be deleted with this submitted job's folder; give a URI, or an absolute path that "
            "all nodes share"
        )


def open_store(uri: str) -> Store:
    """Returns the store of a root URI: a folder's path, `file://` or `s3://bucket/prefix`.

    Opens no connection. Raises UserError for any other scheme.
    """
    from infra.storage.folder import FolderStore

    scheme, separator, rest = uri.partition("://")
    if not separator:
        return FolderStore(Path(uri).expanduser().absolute())
    if scheme == "file":
        return FolderStore(Path(unquote(rest)))
    if scheme == "s3":
        from infra.storage.s3 import S3Store  # boto3 is imported only where it is used

        bucket, _, prefix = rest.partition("/")
        return S3Store(bucket, prefix.strip("/"))
    raise UserError(f"{uri}: {scheme}:// is not supported; give a folder or s3://bucket/prefix")
