"""Reads the rows of bottom-up-attention TSV files, plain or gzip."""

import ast
import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from infra.errors import UserError
from infra.paths import explained, is_dir, is_file
from pipelines.features.precomputed.tsv_row import ORDERS

_BUFFER = 2**20
_LONGEST = 64 * 2**20
"""Most bytes of a row; a hundred regions of 2048 features take 1.1 MB."""
_OTHER_FORMATS = {
    b"PK\x03\x04": "it is a zip archive; unpack it and pass the TSV",
    codecs.BOM_UTF16_LE: "it is UTF-16 text; save it as UTF-8",
    codecs.BOM_UTF16_BE: "it is UTF-16 text; save it as UTF-8",
}
"""First bytes of files that are often taken for a TSV, and the fix."""

_BYTES = re.compile(r"b(['\"]).*\1")
"""Text that Python 3 writes for bytes: with double quotes if they contain single ones."""


def tsv_files(path: Path) -> list[Path]:
    """Returns the file, or a folder's `*.tsv`, `*.tsv.gz` and `*.tsv.0` (as the original script names parts) by name.

    Raises UserError if it has no such file.
    """
    if is_file(path):
        return [path]
    with explained(path):
        listed = list(path.iterdir()) if is_dir(path) else []
    files = sorted(
        file for file in listed if ".tsv" in file.name.lower() and is_file(file) and not file.name.startswith(".")
    )
    if not files:
        raise UserError(f"{path}: no TSV file there; pass a .tsv (or .tsv.gz) or a folder of them")
    return files


def tsv_lines(files: list[Path]) -> Iterator[bytes]:
    """Yields every row with its line end, without empty lines and headers.

    Raises UserError for a corrupt gzip, a file that cannot be read, a line too long for a row, and an unknown order of
    columns.
    """
    for path in files:
        try:
            with BufferedReader(FileIO(path), _BUFFER) as file:
                is_gzip = file.peek(2)[:2] == b"\x1f\x8b"
                yield from _rows(path, BufferedReader(gzip.GzipFile(fileobj=file), _BUFFER) if is_gzip else file)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: cannot be read to its end ({error}); download or unpack it again") from error


def image_id(line: bytes) -> str:
    """Returns the first column of a row; of text that Python 3 wrote for bytes, such as `b'1.jpg'`, the bytes."""
    text = line[: max(line.find(b"\t"), 0)].decode("utf-8", "replace").strip()
    if not _BYTES.fullmatch(text):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):  # not as Python writes it
        return text[2:-1]
    return value.decode("utf-8", "replace").strip()


def _rows(path: Path, file: "BufferedReader[Any]") -> Iterator[bytes]:
    start = file.peek(8)
    for magic, fix in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise UserError(f"{path}: {fix}")
    if start.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    while line := file.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise UserError(f"{path}: a line of more than {_LONGEST >> 20} MiB; pass a bottom-up-attention TSV")
        if image_id(line) in ("image_id", "img_id"):
            names = tuple(line.decode("utf-8", "replace").strip().split("\t"))
            if names not in ORDERS.values():
                page = "docs/how-to/prepare-a-data-set.md"
                raise UserError(f"{path}: columns {', '.join(names)} are in neither known order; see {page}")
        elif not line.isspace():
            yield line
