"""Rows of a data set as Arrow batches: of millions of rows, only one batch exists as Python objects."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_BATCH = 10_000


class Row(NamedTuple):
    """One entry of a file. A reader raises UserError naming the entry if it is not valid."""

    where: str
    """The entry in messages, such as `line 7`."""
    source: str
    captions: tuple[str, ...] = ()
    split: str = ""
    """Empty if the file does not contain it."""
    key: str = ""
    """Empty if the file does not contain it."""
    is_complete: bool = False
    """Whether the file has no other entry for this photo."""
    version_token: str = ""
    """The photo's (`ObjectInfo.version_token`), if the reader has found it."""


_SCHEMA = pa.schema(
    [
        ("file", pa.int32()),
        ("where", pa.string()),
        ("source", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("split", pa.string()),
        ("key", pa.string()),
        ("is_complete", pa.bool_()),
        ("version_token", pa.string()),
    ]
)


class RowTable:
    """Rows, each with the number of its file."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._rest: list[tuple[object, ...]] = []

    def append(self, file: int, row: Row) -> None:
        """Adds a row. Raises UnicodeEncodeError, up to a batch later, for text that is not valid Unicode."""
        self._rest.append((file, *row))
        if len(self._rest) == _BATCH:
            self.flush()

    def flush(self) -> None:
        """Converts the last rows. Raises UnicodeEncodeError as `append`."""
        if self._rest:
            columns = zip(*self._rest, strict=True)
            arrays = [pa.array(column, type_) for column, type_ in zip(columns, _SCHEMA.types, strict=True)]
            self._batches.append(pa.record_batch(arrays, _SCHEMA))
            self._rest = []

    def columns(self, *names: str) -> Iterator[tuple[str, ...]]:
        """Yields the values of some columns of every row."""
        self.flush()
        for batch in self._batches:
            yield from zip(*(batch[name].to_pylist() for name in names), strict=True)

    def drain(self) -> Iterator[tuple[int, Row]]:
        """Yields all rows and forgets them, batch by batch."""
        self.flush()
        self._batches.reverse()
        while self._batches:
            yield from _rows(self._batches.pop())

    def take(self, order: NDArray[np.int64]) -> Iterator[tuple[int, Row]]:
        """Yields the rows with these numbers, in any order."""
        self.flush()
        starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        for begin in range(0, len(order), _BATCH):
            rows = order[begin : begin + _BATCH]
            batch_of_row = np.searchsorted(starts, rows, side="right") - 1
            by_batch = np.argsort(batch_of_row, kind="stable")
            # `Table.take` would copy the table first.
            taken = [
                self._batches[number].take(pa.array(rows[batch_of_row == number] - starts[number]))
                for number in np.unique(batch_of_row).tolist()
            ]
            found = pa.Table.from_batches(taken).combine_chunks().take(pa.array(np.argsort(by_batch)))
            for batch in found.to_batches():
                yield from _rows(batch)


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[int, Row]]:
    columns = (column.to_pylist() for column in batch.columns)
    for file, where, source, captions, *others in zip(*columns, strict=True):
        yield file, Row(where, source, tuple(captions), *others)
