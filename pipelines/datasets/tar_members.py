"""Reads single members of an uncompressed tar file in any store.

By name, each process scans a tar file once for the offsets of its members; every member is then a single ranged read.
By location, which `tar_index` finds, no process scans.
"""

import io
import posixpath
import re
import tarfile

from infra.single_flight import single_flight_cache
from infra.storage.base import Store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.ranged_file import RangedFile, recent_version
from pipelines.datasets.spellings import spellings
from pipelines.datasets.tar_index import is_plain, member_name

_LOCATION = re.compile(r"(\d{1,13})-(\d{1,13})/(.+)", re.DOTALL)
_HEADERS = 2**16
"""Most bytes of the headers of one member."""


def read_member(store: Store, tar: str, member: str, max_bytes: int) -> bytes:
    """Returns the first `max_bytes` bytes of a member, which may be spelled otherwise in the tar (`spellings`).

    Raises PhotoError if the tar file does not exist, is not an uncompressed tar, is truncated, or lacks the member.
    """
    try:
        locations = _member_locations(store, tar, recent_version(store, tar))
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


def read_located_member(store: Store, tar: str, location: str, max_bytes: int) -> bytes:
    """Returns the first `max_bytes` bytes of the member at `location`, `<start>-<end>/<member>`: one ranged read.

    Its headers are at the start. Raises PhotoError if the tar does not exist, is truncated, or has changed.
    """
    match = _LOCATION.fullmatch(location)
    if match is None:
        raise PhotoError("not a location in a tar file: <start>-<end>/<member>")
    start, end, member = int(match[1]), int(match[2]), match[3]
    try:
        data = store.read(tar, start, max(min(end - start, max_bytes + _HEADERS), 0))
    except FileNotFoundError as error:
        raise PhotoError("its tar file does not exist") from error
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as opened:
            entry = opened.next()
    except (tarfile.TarError, ValueError, OverflowError):
        entry = None
    if entry is None or member_name(entry) != member or start + entry.offset_data + entry.size != end:
        raise PhotoError("its tar file has changed since its index was read")
    if not is_plain(entry):
        raise PhotoError("a link or a sparse file in its tar file")
    content = data[entry.offset_data : entry.offset_data + min(entry.size, max_bytes)]
    if len(content) < min(entry.size, max_bytes):
        raise PhotoError("its tar file is truncated")
    return content


@single_flight_cache(8)
def _member_locations(store: Store, tar: str, _version: str) -> dict[str, tuple[int, int]]:
    """Returns offset and size of each plain file in an uncompressed tar, from one pass over it."""
    with tarfile.open(fileobj=io.BufferedReader(RangedFile(store, tar), 2**20), mode="r:") as opened:
        return {posixpath.normpath(entry.name): (entry.offset_data, entry.size) for entry in opened if is_plain(entry)}
