"""A tar in memory, byte for byte as webdataset's TarWriter writes it, in a quarter of the time.

A header is made from a template instead of field by field in Python, and each member is copied once.
"""

import tarfile
from collections.abc import Iterable
from functools import cache

Bytes = bytes | memoryview
_BLOCK = 512


def tar_bytes(members: Iterable[tuple[str, list[Bytes]]]) -> bytes:
    """A tar of members in order; each is a name and the parts of its bytes. mtime 0, read-only, webdataset's owner."""
    parts: list[Bytes] = []
    total = 0
    for name, data in members:
        size = sum(len(part) for part in data)
        header = _header(name, size)
        padding = -size % _BLOCK
        parts += [header, *data, bytes(padding)]
        total += len(header) + size + padding
    end = 2 * _BLOCK
    return b"".join([*parts, bytes(end + -(total + end) % tarfile.RECORDSIZE)])


def _header(name: str, size: int) -> bytes:
    """The header block; a long or non-ASCII name takes more than one, which tarfile knows to write."""
    if len(name) > 99 or not name.isascii() or size >= 8**11:
        return _info(name, size).tobuf()
    block = bytearray(_template())
    block[: len(name)] = name.encode()
    block[124:135] = b"%011o" % size
    block[148:156] = b"%06o\0 " % (sum(block) + 8 * ord(" "))
    return bytes(block)


@cache
def _template() -> bytes:
    """A header without name, size and checksum."""
    block = bytearray(_info("", 0).tobuf())
    block[148:156] = bytes(8)
    return bytes(block)


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, 0, 0o444
    info.uname = info.gname = "bigdata"
    return info
