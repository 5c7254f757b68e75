"""Readers of text tables of photos: CSV, TSV and JSON lines. `columns` describes their columns."""

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from infra.errors import UserError
from pipelines.datasets.columns import print_unread, resolve_columns, row_of
from pipelines.datasets.row_table import Row
from pipelines.datasets.rows import DatasetFile, numbered
from pipelines.datasets.text_lines import text_lines


def csv_rows(file: DatasetFile) -> Iterator[Row]:
    """Yields the rows of a CSV file with a header. Raises UserError naming the first that is not valid."""
    return _rows(file, "csv", _csv_values(file, ","))


def tsv_rows(file: DatasetFile) -> Iterator[Row]:
    """Yields the rows of a table with tabs. Raises UserError as `csv_rows`.

    If tabs alone give every line the values of the header, a quote that CSV could not read is a character of its text,
    as in Conceptual Captions. Otherwise the file is quoted as CSV is.
    """
    return _rows(file, "tsv", _tsv_values(file))


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
        header, wanted = _header(file, next(lines, []))
        start = lines.line_num + 1
        for line in lines:
            if line:
                _check_width(line, header, start)
                yield {role: line[column] for role, column in wanted}
            start = lines.line_num + 1
    except csv.Error as error:  # at the end of the file for a quote that is not closed
        reason = str(error).replace("'\t'", "a tab")
        raise ValueError(f"line {start}: {reason}; write a quote in a quoted value twice") from error


def _tsv_values(file: DatasetFile) -> Iterator[dict[str, Any]]:
    """Yields the values by role of every row. Raises ValueError as `_csv_values`."""
    csv.field_size_limit(sys.maxsize)
    counts = {line.count("\t") for line in text_lines(file.path) if line.strip("\r\n")}
    if len(counts) != 1:
        yield from _csv_values(file, "\t")
        return
    lines = (_split_by_tabs(line) for _, line in numbered(text_lines(file.path)))
    _, wanted = _header(file, next(lines, []))
    for values in lines:
        yield {role: values[column] for role, column in wanted}


def _split_by_tabs(line: str) -> list[str]:
    """Returns the values of a line, without quotes if CSV reads as many."""
    values = line.split("\t")
    if '"' in line:
        with suppress(csv.Error):
            (quoted,) = csv.reader([line], delimiter="\t", strict=True)
            values = quoted if len(quoted) == len(values) else values
    return values


def _header(file: DatasetFile, names: list[str]) -> tuple[list[str], list[tuple[str, int]]]:
    """Returns the names of all columns, and the role and number of those that are read."""
    header = [name.strip() for name in names]
    if not any(header):
        raise ValueError("it has no header line")
    columns = resolve_columns(header, file.columns, f"{file.path}: columns")
    print_unread(file.path, header, columns)
    return header, [(role, header.index(name)) for role, name in columns.items()]


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
