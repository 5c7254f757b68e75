"""Readers of text tables of photos: CSV, TSV and JSON lines. `columns` describes their columns."""

import csv
import json
import sys
from collections.abc import Iterator
from typing import Any

from infra.errors import UserError
from pipelines.datasets.columns import print_unread, resolve_columns, row_of
from pipelines.datasets.row_table import Row
from pipelines.datasets.rows import DatasetFile
from pipelines.datasets.text_lines import text_lines


def csv_rows(file: DatasetFile) -> Iterator[Row]:
    """Yields the rows of a CSV file with a header. Raises UserError naming the first that is not valid."""
    return _rows(file, "csv", _csv_values(file, ","))


def tsv_rows(file: DatasetFile) -> Iterator[Row]:
    """Yields the rows of a table with tabs, which is quoted as CSV is. Raises UserError as `csv_rows`."""
    return _rows(file, "tsv", _csv_values(file, "\t"))


def jsonl_rows(file: DatasetFile) -> Iterator[Row]:
    """Yields the rows of a file with a JSON object per line. Raises UserError naming the first that is not valid."""
    return _rows(file, "jsonl", _json_values(file))


def _rows(file: DatasetFile, kind: str, values: Iterator[dict[str, Any]]) -> Iterator[Row]:
    """Yields the rows that values by role give; the readers' ValueErrors become UserErrors."""
    try:
        for number, row in enumerate(values, 1):
            yield row_of(file.path, number, row)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file.path}: not readable as {kind} ({error}); see docs/how-to/prepare-a-data-set.md"
        ) from error


def _csv_values(file: DatasetFile, delimiter: str) -> Iterator[dict[str, Any]]:
    """Yields the values by role of every row. Raises ValueError naming the line where an invalid row starts."""
    csv.field_size_limit(sys.maxsize)  # by default 128 KiB, which columns that are not read may exceed
    lines, start = csv.reader(text_lines(file.path), delimiter=delimiter, strict=True), 1
    try:
        header = [name.strip() for name in next(lines, [])]
        if not header:
            raise ValueError("it has no header line")
        columns = resolve_columns(header, file.columns, f"{file.path}: columns")
        print_unread(file.path, header, columns)
        wanted = [(role, header.index(name)) for role, name in columns.items()]
        start = lines.line_num + 1
        for line in lines:
            if line:
                _check_width(line, header, start)
                yield {role: line[column] for role, column in wanted}
            start = lines.line_num + 1
    except csv.Error as error:  # at the end of the file for a quote that is not closed
        raise ValueError(f"line {start}: {error}") from error


def _check_width(line: list[str], header: list[str], number: int) -> None:
    if len(line) != len(header):
        raise ValueError(f"line {number} has {len(line)} values, the header {len(header)}")


def _json_values(file: DatasetFile) -> Iterator[dict[str, Any]]:
    """Yields the values by role of every line. Raises ValueError naming an invalid line."""
    known, columns = list[str](), dict[str, str]()
    all_names, all_columns = dict[str, None](), dict[str, str]()
    for number, line in enumerate(text_lines(file.path), 1):
        if line.isspace():
            continue
        fields = _fields(number, line)
        names = [name for name, _ in fields]
        if names != known:
            known, columns = names, resolve_columns(names, file.columns, f"{file.path}: line {number}: fields")
            all_names |= dict.fromkeys(names)
            all_columns |= columns
        values = dict(fields)
        yield {role: values[name] for role, name in columns.items()}
    print_unread(file.path, all_names, all_columns)


def _fields(number: int, line: str) -> list[tuple[str, Any]]:
    """Returns the fields of a JSON object that are not null, as pairs: a dict would hide one that occurs twice."""
    try:
        fields = json.loads(line, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number}: {error}") from error
    if not line.lstrip().startswith("{"):
        raise ValueError(f"line {number} is not a JSON object")
    return [(name, value) for name, value in fields if value is not None]
