"""Reads single members of an uncompressed tar file in any store.

Each worker scans a tar file once for the offsets of its members; every member is then a single ranged read.
"""

import io
import posixpath
import tarfile
from functools import lru_cache

from infra.storage.base import Store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.ranged_file import RangedFile
from pipelines.datasets.spellings import spellings


def read_member(store: Store, tar: str, member: str, max_bytes: int) -> bytes:
    """Returns the first `max_bytes` bytes of a member, which may be spelled otherwise in the tar (`spellings`).

    Raises PhotoError if the tar file does not exist, is not an uncompressed tar, is truncated, or lacks the member.
    """
    try:
        locations = _member_locations(store, tar)
    except (FileNotFoundError, tarfile.TarError) as error:
        raise PhotoError("its tar file does not exist or is not an uncompressed tar") from error
    member = posixpath.normpath(member)
    location = next((locations[name] for name in (member, *spellings(member)) if name in locations), None)
    if location is None:
        raise PhotoError("not in its tar file")
    offset, size = location
    data = store.read(tar, offset, min(size, max_bytes))
    if len(data) < min(size, max_bytes):
        raise PhotoError("its tar file is truncated")
    return data


@lru_cache(maxsize=8)
def _member_locations(store: Store, tar: str) -> dict[str, tuple[int, int]]:
    """Returns offset and size of each file in an uncompressed tar, from one pass over it."""
    with tarfile.open(fileobj=io.BufferedReader(RangedFile(store, tar), 2**20), mode="r:") as opened:
        return {posixpath.normpath(entry.name): (entry.offset_data, entry.size) for entry in opened if entry.isfile()}
