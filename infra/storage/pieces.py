"""Reads an object, and a file, piece by piece, for objects of which only a part should be in memory."""

from collections.abc import Iterator
from typing import IO

from infra.storage.base import Store

PIECE_BYTES = 16 << 20
"""Bytes of a piece."""


def object_pieces(store: Store, name: str) -> Iterator[bytes]:
    """Yields the bytes of an object. FileNotFoundError for a missing one."""
    offset = 0
    while piece := store.read(name, offset, PIECE_BYTES):
        yield piece
        offset += len(piece)
        if len(piece) < PIECE_BYTES:
            return


def file_pieces(file: IO[bytes]) -> Iterator[bytes]:
    """Yields the bytes of an open file, from its beginning."""
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        yield piece
