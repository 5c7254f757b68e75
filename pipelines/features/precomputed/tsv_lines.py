"""The rows of bottom-up-attention TSV files, one after the other, plain or gzip."""

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO

from infra.errors import UserError
from pipelines.features.precomputed.tsv_row import ORDERS

_BUFFER = 2**20
_LONGEST = 64 * 2**20
"""Bytes of a row; a hundred regions of 2048 numbers take 1.1 MB."""


def tsv_files(path: Path) -> list[Path]:
    """The file, or those of a folder by name: `*.tsv`, `*.tsv.gz`, and `*.tsv.0` as the original script leaves them."""
    if path.is_file():
        return [path]
    files = sorted(file for file in path.glob("*.tsv*") if file.is_file() and not file.name.startswith("."))
    if not files:
        raise UserError(f"{path}: no TSV file there; pass a .tsv (or .tsv.gz) or a folder of them")
    return files


def tsv_lines(files: list[Path]) -> Iterator[bytes]:
    """Every row with its line end; empty lines and headers are passed over.

    UserError for a damaged gzip, a file that cannot be read, a line too long for a row, and columns of another order.
    """
    for path in files:
        try:
            with BufferedReader(FileIO(path), _BUFFER) as file:
                packed = file.peek(2)[:2] == b"\x1f\x8b"
                yield from _rows(path, BufferedReader(gzip.GzipFile(fileobj=file), _BUFFER) if packed else file)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: cannot be read to its end ({error}); download or unpack it again") from error


def image_id(line: bytes) -> str:
    """The first column."""
    return line[: max(line.find(b"\t"), 0)].decode("utf-8", "replace").strip()


def _rows(path: Path, file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise UserError(f"{path}: a line of more than {_LONGEST >> 20} MiB; this is no bottom-up-attention TSV")
        if image_id(line) in ("image_id", "img_id"):
            names = tuple(line.decode("utf-8", "replace").strip().split("\t"))
            if names not in ORDERS.values():
                raise UserError(f"{path}: columns {', '.join(names)} are in neither known order; see docs/data.md")
        elif not line.isspace():
            yield line
