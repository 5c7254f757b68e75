"""Reader of a table of photos: CSV, JSON lines or Parquet.

Columns: `uri` (a path below the photo root, or a URI) and either `caption` (one row per caption) or `captions` (a list)
are required; `split` (train, val or test; default train) and `key` are optional. Other columns are not read. Values
are text, and no type is guessed.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from pipelines.datasets.manifest import Photo, dataset_name, escapes_root, safe_key

COLUMNS = ("uri", "caption", "captions", "split", "key")
_Row = dict[str, Any]


def table_rows(dataset: Path) -> tuple[str, list[Photo]]:
    """Returns name and rows of a table.

    Raises UserError if it cannot be read, lacks a column, has a column twice, or has a row that is not valid.
    """
    suffix = dataset.suffix.lower()
    photos: dict[str, Photo] = {}
    try:
        for number, row in enumerate(_READERS[suffix](dataset), 1):
            _add(photos, _photo(dataset, number, row), f"{dataset}: row {number}", merge="caption" in row)
    except (OSError, ValueError, csv.Error, pa.ArrowException, RecursionError) as error:
        raise UserError(
            f"{dataset}: not readable as {suffix[1:]} ({error}); see docs/how-to/prepare-a-data-set.md"
        ) from error
    return dataset_name(dataset.stem), list(photos.values())


def _csv(dataset: Path) -> Iterator[_Row]:
    csv.field_size_limit(sys.maxsize)  # by default 128 KiB, which columns that are not read may exceed
    with dataset.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        header = [name.strip() for name in next(lines, [])]
        if not header:
            raise ValueError("its first line is empty")
        _check_columns(header, f"{dataset}: columns")
        wanted = [(number, name) for number, name in enumerate(header) if name in COLUMNS]
        for line in lines:
            if line and len(line) != len(header):
                raise ValueError(f"line {lines.line_num} has {len(line)} values, the header {len(header)}")
            if line:
                yield {name: line[number] for number, name in wanted}


def _jsonl(dataset: Path) -> Iterator[_Row]:
    with dataset.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                fields = json.loads(line, object_pairs_hook=list)  # pairs, so that a field that occurs twice is found
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            if not line.lstrip().startswith("{"):
                raise ValueError(f"line {number} is not a JSON object")
            fields = [(name, value) for name, value in fields if value is not None]
            _check_columns([name for name, _ in fields], f"{dataset}: line {number}: fields")
            yield {name: value for name, value in fields if name in COLUMNS}


def _parquet(dataset: Path) -> Iterator[_Row]:
    files = pq.ParquetDataset(dataset)
    names = files.schema.names
    _check_columns(names, f"{dataset}: columns")
    # One thread: Arrow's thread pool can abort the process at exit (apache/arrow#34314).
    for batch in files.read([name for name in names if name in COLUMNS], use_threads=False).to_batches():
        yield from batch.to_pylist()


_READERS: dict[str, Callable[[Path], Iterator[_Row]]] = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
SUFFIXES = tuple(_READERS)


def _check_columns(names: Sequence[str], subject: str) -> None:
    """Raises UserError unless the names have the required columns, and every column that is read once."""
    twice = next((name for name in COLUMNS if names.count(name) > 1), None)
    if twice:
        raise UserError(f"{subject} have `{twice}` twice; rename or remove one of them")
    if "uri" not in names or not {"caption", "captions"} & set(names):
        raise UserError(f"{subject} are {', '.join(names)}; it needs `uri` and `caption` or `captions`")
    if {"caption", "captions"} <= set(names):
        raise UserError(f"{subject} have both `caption` and `captions`; remove one of them")


def _photo(dataset: Path, number: int, row: _Row) -> Photo:
    """Returns the photo of one row; raises UserError if a value is not text."""
    source, captions = row["uri"], row.get("captions", row.get("caption"))
    if isinstance(captions, str):
        if "captions" in row and captions.startswith("[") and captions.endswith("]"):
            raise UserError(
                f"{dataset}: row {number} ({source!r}): `captions` is the text of a list; write a row per caption, "
                "in a column `caption`, or write .jsonl or .parquet"
            )
        captions = [captions]
    key, split = row.get("key"), row.get("split")
    if key in (None, "") and isinstance(source, str):
        key = safe_key(source)
    split = "train" if split in (None, "") else split
    if (
        not isinstance(source, str)
        or not source
        or not isinstance(captions, list)
        or not all(isinstance(caption, str) for caption in captions)
        or not isinstance(key, str)
        or not isinstance(split, str)
    ):
        raise UserError(
            f"{dataset}: row {number} ({source!r}): `uri`, captions, `key` and `split` must be text; correct it"
        )
    if escapes_root(source):
        raise UserError(
            f"{dataset}: row {number} ('{source}'): a photo's path must stay below the photo root; correct the path"
        )
    return Photo(key, source, split, tuple(caption.strip() for caption in captions))


def _add(photos: dict[str, Photo], photo: Photo, row: str, *, merge: bool) -> None:
    """Adds a photo, or with `merge` its caption to those of an earlier row of the same photo."""
    earlier = photos.get(photo.key)
    if earlier and not merge:
        raise UserError(f"{row} ({photo.source}) has the key of {earlier.source}; rename one of them")
    if earlier and (earlier.source, earlier.split) != (photo.source, photo.split):
        raise UserError(
            f"{row} ({photo.source}) and {earlier.source} share the key {photo.key} or differ in split; rename one of "
            "them or add a column `key`"
        )
    captions = (*(earlier.captions if earlier else ()), *photo.captions)
    photos[photo.key] = Photo(photo.key, photo.source, photo.split, captions)
