"""Stores that fail: one whose token expires, one that is down, a closed folder, a file that its disk cannot read."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from botocore.exceptions import ClientError

from infra.errors import UserError
from infra.storage import s3_client
from infra.storage.folder import FolderStore
from infra.storage.s3_errors import explained
from tests.support.servers import aws_environment

UNREADABLE = Path("/proc/self/mem")
"""A regular file whose first byte cannot be read (EIO). Linux has it."""

T = TypeVar("T")


@contextmanager
def no_s3_server() -> Iterator[None]:
    """Gives this process the address of an S3 server that does not run, which it tries for a moment."""
    down = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "x"}
    with pytest.MonkeyPatch.context() as patch, aws_environment(down):
        patch.setattr(s3_client, "DEADLINE_S", 0.1)
        yield


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Makes a folder one that this process may not enter. Root may enter every one, so it becomes another user."""
    mode, is_root = folder.stat().st_mode, os.geteuid() == 0
    folder.chmod(0)
    if is_root:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if is_root:
            os.setresuid(0, 0, 0)
        folder.chmod(mode)


def at_every_expiry(work: Callable[[], T]) -> list[T | UserError]:
    """Calls `work` with a token that expires before the first read of a folder, before the second, and so on.

    Returns what each call returns or raises (UserError). The last call, in this list as well, has all its reads.
    """
    results: list[T | UserError] = []
    for reads in count():
        with pytest.MonkeyPatch.context() as patch:
            refused = _expire_after(reads, patch)
            try:
                results.append(work())
            except UserError as error:
                results.append(error)
        if not refused:
            return results
    raise AssertionError


def _expire_after(reads: int, patch: pytest.MonkeyPatch) -> list[str]:
    """Returns the list of the names whose read is refused, which grows."""
    numbers, refused, read = count(), list[str](), FolderStore.read

    def read_or_refuse(store: FolderStore, name: str, *extent: Any) -> bytes:
        if next(numbers) < reads:
            return read(store, name, *extent)
        refused.append(name)
        with explained("s3://bucket"):
            raise ClientError({"Error": {"Code": "ExpiredToken"}}, "GetObject")
        raise AssertionError

    patch.setattr(FolderStore, "read", read_or_refuse)
    return refused
