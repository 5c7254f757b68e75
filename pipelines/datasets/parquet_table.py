"""Reader of Parquet tables of photos, read where they are: a file, or several (`file_patterns`).

`columns` describes their columns.

The column of the images holds paths and URIs, or the images themselves: binary values, or structs {bytes, path} as
Hugging Face `datasets` writes them. Such an image is the source `<file>/<column>/<row>/<its own name>`.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import StorageError, UserError
from infra.log import log
from infra.parquet import open_parquet
from infra.storage.open import open_store
from pipelines.datasets.columns import print_unread, resolve_columns, row_of
from pipelines.datasets.file_patterns import base_folder, find_files, is_pattern, pattern_name, print_left_out
from pipelines.datasets.manifest import SPLITS
from pipelines.datasets.parquet_images import is_image_struct, is_image_type
from pipelines.datasets.ranged_file import RangedFile
from pipelines.datasets.row_table import Row
from pipelines.datasets.rows import SPLIT_NAMES, DatasetFile

_BATCH = 10_000
"""Rows that are in memory at a time."""


def parquet_name(location: str, is_folder: bool) -> str:
    """Returns the name that Parquet files give a data set: theirs up to the number, or that of their folder.

    In Hugging Face's layout, `<name>/data/train-00000-of-00001.parquet`, it is that of the folder above `data`.
    """
    path = PurePosixPath(location)
    folder = path if is_folder else path.parent
    name = path.stem
    if is_pattern(location):
        folder, name = PurePosixPath(base_folder(location)), pattern_name(location)
    is_generic = folder.name == "data" and (name == "data" or split_in_path(f"{name}.parquet"))
    return (is_generic and folder.parent.name) or name


def parquet_rows(file: DatasetFile) -> Iterator[Row]:
    """Yields the rows of a table. Raises UserError naming the first that is not valid."""
    folder, names = find_files(file.location, file.listing, ".parquet")
    if file.listing is not None:
        print_left_out(file.listing, ".parquet")
    splits = {} if file.split else {name: split for name in names if (split := split_in_path(name))}
    if splits:
        found = ", ".join(f"{name} in {split}" for name, split in list(splits.items())[:3])
        log.info(f"{file.location}: photos without a split are in that of their file's name ({found})")
    for name in names:
        rows = _rows_of(file, folder, name, name == names[0])
        split = splits.get(name, "")
        yield from (row._replace(split=row.split or split) for row in rows) if split else rows


def split_in_path(name: str) -> str:
    """Returns the split that Hugging Face's layout states: `test-00000-of-00001.parquet`, `test/0000.parquet`.

    Empty without one.
    """
    path = PurePosixPath(name)
    found = re.fullmatch(r"([a-z]+)(-\d+-of-\d+)?", path.stem)
    stated = (found[1] if found else "", path.parent.name)
    return next((SPLIT_NAMES.get(word, word) for word in stated if word in (*SPLITS, *SPLIT_NAMES)), "")


def _rows_of(file: DatasetFile, folder: str, name: str, is_first: bool) -> Iterator[Row]:
    """Yields the rows of one file. Prints text columns of the first file that are not read, if it has no captions."""
    uri = f"{folder.rstrip('/')}/{name}"
    try:
        table = open_parquet(RangedFile(open_store(folder), name))
        columns = resolve_columns(table.schema_arrow.names, file.columns, f"{uri}: columns")
        if is_first:
            print_unread(file.location, _text_columns(table.schema_arrow), columns)
        if is_image_type(table.schema_arrow.field(columns["image"]).type):
            yield from _images(uri, file.below_root(uri), table, columns)
        else:
            for number, row in enumerate(_values(table, list(columns.values())), 1):
                yield row_of(uri, number, {role: row[name] for role, name in columns.items()})
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{uri}: no such file; correct the data set {file.location}") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{uri}: not readable as parquet ({error}); see docs/how-to/prepare-a-data-set.md") from error


def _text_columns(schema: pa.Schema) -> list[str]:
    """Returns the columns that contain text, or lists of it."""
    types = ((field.name, field.type) for field in schema)
    values = ((name, type_.value_type if pa.types.is_list(type_) else type_) for name, type_ in types)
    return [name for name, type_ in values if pa.types.is_string(type_) or pa.types.is_large_string(type_)]


def embeds_images(file: DatasetFile) -> bool:
    """Returns whether the images are in the table; False if that is none, which `parquet_rows` reports.

    Raises UserError for missing columns, and the UserError or StorageError of a store that refuses or fails.
    """
    folder, names = find_files(file.location, file.listing, ".parquet")
    try:
        schema = pq.read_schema(RangedFile(open_store(folder), names[0]))
    except StorageError:
        raise
    except (OSError, ValueError, pa.ArrowException):
        return False
    columns = resolve_columns(schema.names, file.columns, f"{folder.rstrip('/')}/{names[0]}: columns")
    return is_image_type(schema.field(columns["image"]).type)


def _images(uri: str, relative: str, table: Any, columns: dict[str, str]) -> Iterator[Row]:
    """Yields the rows of a file that contains its images, with its path below the root. Their bytes are not read."""
    image = columns["image"]
    if "/" in image or not uri.lower().endswith(".parquet"):
        raise UserError(
            f"{uri}: images in column `{image}`: the name of the file must end in .parquet, and that of the column "
            "must not contain `/`; rename it"
        )
    type_ = table.schema_arrow.field(image).type
    has_path = is_image_struct(type_) and type_.get_field_index("path") >= 0
    _require_images(uri, image, table.metadata, f"{image}.bytes" if is_image_struct(type_) else image)
    others = {role: name for role, name in columns.items() if role != "image"}
    leaves = [*others.values(), *([f"{image}.path"] if has_path else [])]
    for number, row in enumerate(_values(table, leaves)):
        name = (row[image] or {}).get("path") if has_path else None
        parts = (relative, image, str(number), PurePosixPath(name).name if name else "")
        values = {role: row[column] for role, column in others.items()}
        yield row_of(uri, number + 1, {**values, "image": "/".join(filter(None, parts))})


def _require_images(uri: str, column: str, metadata: Any, leaf: str) -> None:
    """Raises UserError if all images are null by the file's statistics: Hugging Face may store their paths only."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    counts = [(c.num_values, c.statistics) for c in chunks if c.path_in_schema == leaf]
    if counts and all(found and found.has_null_count and found.null_count == values for values, found in counts):
        raise UserError(
            f"{uri}: column `{column}` contains no images, but at most their paths; write the file with the images, as "
            "`push_to_hub` of Hugging Face does, or with a column of text that has their paths"
        )


def _values(table: Any, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Yields the values of some columns, row by row."""
    if not columns:
        yield from ({} for _ in range(table.metadata.num_rows))
        return
    for batch in table.iter_batches(_BATCH, columns=columns, use_threads=False):
        yield from batch.to_pylist()
