"""The manifest: a validated Arrow table of the photos, captions and splits of a data set.

Stored as Parquet with the columns `key` (valid as a WebDataset key), `source` (a path below the root, or a URI),
`split`, `captions` and `version_token`. The schema metadata hold `format` (the format version), `dataset` (the name)
and `root`. Root and version tokens do not enter the digest, so moving the photos does not change it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import IO, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.errors import UserError
from infra.parquet import read_parquet
from infra.redaction import redact
from pipelines.datasets.manifest_checks import repeated_keys, suspect_rows
from pipelines.datasets.names import escapes_root
from shan_model.vocabulary import has_word

FORMAT = "shan-manifest/2"
"""Format version; a change of columns, metadata, digest or permitted values needs a new one."""
READABLE = ("shan-manifest/1", FORMAT)
"""Format versions that can be read. In version 1 every photo has captions, and the split `gallery` does not exist."""
SPLITS = ("train", "val", "test", "gallery")
"""Splits in the order of a feature set. Photos of any split may have no captions."""
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("version_token", pa.string()),
    ]
)
_KEY = re.compile(r"[A-Za-z0-9_-]+")
_CHUNK = 10_000
"""Rows that exist as Python objects at a time."""
ROW_GROUP = 32_768
"""Rows of a row group: a worker reads one for the photos of a shard."""


@dataclass(frozen=True)
class Photo:
    """One row of a manifest."""

    key: str
    source: str
    split: str
    captions: tuple[str, ...]
    version_token: str = ""
    """Changes when the photo does (`photo_sources.version_tokens`); empty if changes cannot be detected."""


@dataclass(frozen=True)
class Manifest:
    """A named table of photos below one root: a folder, a prefix URI or a tar file."""

    name: str
    root: str
    table: pa.Table

    @classmethod
    def build(cls, name: str, root: str, photos: Iterable[Photo]) -> "Manifest":
        """Returns the manifest of these photos; raises UserError naming the first photo that is not valid."""
        try:
            tables = list(photo_tables(photos))
        except UnicodeEncodeError as error:
            raise UserError(
                f"data set {name}: a caption or name is not valid Unicode ({error.reason}); correct it"
            ) from error
        if not tables:
            raise UserError(f"data set {name} lists no photo; check the data set file")
        return cls(name, root, _checked(pa.concat_tables(tables)))

    def photos(self, split: str | None = None) -> Iterator[Photo]:
        """Yields the rows in order, all of them or those of one split."""
        for batch in self.table.to_batches(max_chunksize=_CHUNK):
            for photo in _photos(batch):
                if split in (None, photo.split):
                    yield photo

    def rows(self, numbers: NDArray[np.int64]) -> "Photos":
        """Returns the rows with these numbers."""
        return Photos(self.table, numbers)

    def digest(self) -> str:
        """Returns the sha256 of name, keys, sources, splits and captions, in order: the start of the data lineage."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest, encode = hashlib.sha256(json.dumps([self.name]).encode()), json.JSONEncoder().encode
        for batch in self.table.select(["key", "source", "split", "captions"]).to_batches(max_chunksize=_CHUNK):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            digest.update("".join(map(encode, rows)).encode())
        return digest.hexdigest()

    def write_parquet(self, file: IO[bytes]) -> None:
        """Writes the manifest as Parquet, with format version, name and root in the schema metadata."""
        metadata = {"format": FORMAT, "dataset": self.name, "root": self.root}
        pq.write_table(self.table.replace_schema_metadata(metadata), file, row_group_size=ROW_GROUP)

    @classmethod
    def from_parquet(cls, data: "bytes | IO[bytes]", origin: str) -> "Manifest":
        """Reads and validates a manifest; raises UserError naming `origin` if it is not a valid one."""
        try:
            table = read_parquet(pa.BufferReader(data) if isinstance(data, bytes) else data)
            columns = table.column_names  # raises ValueError for names that are not UTF-8
            metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        except (OSError, ValueError) as error:
            raise UserError(f"{origin}: not a readable manifest ({error}); extract the data set again") from error
        if metadata.get("format") not in READABLE:
            raise UserError(
                f"{origin}: manifest format is {metadata.get('format')!r}, expected {FORMAT!r}; "
                "extract the data set again, or read it with the release that wrote it"
            )
        if not table.schema.remove_metadata().equals(SCHEMA) or not {"dataset", "root"} <= set(metadata):
            raise UserError(
                f"{origin}: not a valid manifest (columns {', '.join(columns)}); extract the data set again"
            )
        try:
            table.validate(full=True)
        except ValueError as error:
            raise UserError(f"{origin}: not a readable manifest ({error}); extract the data set again") from error
        columns_and_captions = [*table.columns, *(chunk.values for chunk in table["captions"].chunks)]
        if any(column.null_count for column in columns_and_captions):
            raise UserError(f"{origin}: not a readable manifest (it has empty values); extract the data set again")
        if not table.num_rows:
            raise UserError(f"data set {metadata['dataset']} lists no photo; check the data set file")
        return cls(metadata["dataset"], metadata["root"], _checked(table.replace_schema_metadata()))


def photo_tables(photos: Iterable[Photo]) -> Iterator[pa.Table]:
    """Yields photos as tables of SCHEMA. Raises UnicodeEncodeError for text that is not valid Unicode."""
    iterator = iter(photos)
    while rows := list(islice(iterator, _CHUNK)):
        yield pa.table({name: [getattr(row, name) for row in rows] for name in SCHEMA.names}, schema=SCHEMA)


class Photos(Sequence[Photo]):
    """Rows of a manifest, in its order. They exist as Python objects only while they are looked at."""

    def __init__(self, table: pa.Table, numbers: NDArray[np.int64]) -> None:
        """`numbers` ascend and are distinct."""
        self._table, self.numbers = table, numbers

    @property
    def table(self) -> pa.Table:
        """The rows as a table, without a copy if they are consecutive."""
        if not len(self.numbers):
            return self._table.slice(0, 0)
        start = int(self.numbers[0])
        window, found = self._table.slice(start, int(self.numbers[-1]) + 1 - start), []
        if window.num_rows == len(self.numbers):
            return window
        for batch in window.to_batches():  # `Table.take` would copy the window first
            first, end = np.searchsorted(self.numbers, (start, start + batch.num_rows))
            found.append(batch.take(pa.array(self.numbers[first:end] - start)))
            start += batch.num_rows
        return pa.Table.from_batches(found, self._table.schema)

    def columns(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """Yields the values of some columns of every row."""
        table = self.table
        yield from zip(*(table[name].to_pylist() for name in names), strict=True)

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> Photo: ...
    @overload
    def __getitem__(self, at: slice) -> "Photos": ...
    def __getitem__(self, at: int | slice) -> "Photo | Photos":
        if isinstance(at, slice):
            return Photos(self._table, self.numbers[at])
        (photo,) = _photos(self._table.slice(int(self.numbers[at]), 1))
        return photo

    def __iter__(self) -> Iterator[Photo]:
        for start in range(0, len(self), _CHUNK):
            yield from _photos(self[start : start + _CHUNK].table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def _photos(rows: "pa.Table | pa.RecordBatch") -> Iterator[Photo]:
    """Yields a chunk of rows."""
    columns = (rows[name].to_pylist() for name in SCHEMA.names)
    for key, source, split, captions, version_token in zip(*columns, strict=True):
        yield Photo(key, source, split, tuple(captions), version_token)


def _checked(table: pa.Table) -> pa.Table:
    """Returns the table. Raises UserError naming the first row that is not valid, or has the key of another one."""
    for photo in Photos(table, suspect_rows(table, SPLITS)):
        _check(photo)
    source_of_key: dict[str, str] = {}
    for photo in Photos(table, repeated_keys(table)):
        if source_of_key.get(photo.key) == photo.source:
            raise UserError(f"{photo.source} is listed twice; remove one of the entries from the data set")
        if photo.key in source_of_key:
            raise UserError(
                f"{photo.source} and {source_of_key[photo.key]} share the key {photo.key}; rename one of them"
            )
        source_of_key[photo.key] = photo.source
    return table


def _check(photo: Photo) -> None:
    """Raises UserError unless the row, by itself, is valid."""
    if problem := photo_problem(photo.key, photo.source, photo.split, photo.captions):
        raise UserError(f"{redact(photo.source)}: {problem}")


def photo_problem(key: str, source: str, split: str, captions: Sequence[str]) -> str:
    """Returns what is not valid in a photo by itself, with the fix; empty if all is."""
    if split not in SPLITS:
        return f"split is '{split}'; it must be one of {', '.join(SPLITS)}"
    if not _KEY.fullmatch(key):
        return f"key is '{key}'; use A-Z, a-z, 0-9, _ and - only"
    if escapes_root(source):
        return "a photo's path must stay below the photo root; write it relative to --photos, or as file:///path"
    path = source.partition("?")[0]
    if "@" in path and redact(path) != path:
        return "the URI contains a user or password; remove them"
    if not all(map(has_word, captions)):
        return "a caption has no word; fill it in or remove it from the data set"
    return ""
