"""Importer of a table of photos: CSV, JSON lines or Parquet.

Columns: `uri` (a path below the photo root, or a URI) and either `caption` (one row per caption) or `captions` (a list)
are required; `split` (train, val or test; default train) and `key` are optional.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest, Photo, escapes_root, safe_key
from pipelines.datasets.photo_sources import locate_photos

# One thread each: Arrow's thread pool can abort the process at exit (apache/arrow#34314).
_READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".csv": lambda path: pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=_string_columns(path),
    ),
    ".jsonl": lambda path: pyarrow.json.read_json(path, pyarrow.json.ReadOptions(use_threads=False)),
    ".parquet": lambda path: pyarrow.parquet.read_table(path, use_threads=False),
}
SUFFIXES = tuple(_READERS)


def import_table(dataset: Path, photos: str | Path) -> Manifest:
    """Returns the manifest of a table; `photos` is the folder, prefix URI or tar file of relative photo paths.

    Raises UserError if the table cannot be read, lacks a column or has a row that is not valid, or if a photo is
    missing.
    """
    try:
        table = _READERS[dataset.suffix.lower()](dataset)
        columns, rows = table.column_names, table.to_pylist()
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise UserError(
            f"{dataset}: not readable as {dataset.suffix[1:]} ({error}); see docs/how-to/prepare-a-data-set.md"
        ) from error
    if "uri" not in columns or not {"caption", "captions"} & set(columns):
        raise UserError(f"{dataset}: columns are {', '.join(columns)}; it needs `uri` and `caption` or `captions`")
    photos_by_key: dict[str, Photo] = {}
    for number, row in enumerate(rows, 1):
        photo = _photo(dataset, number, row)
        earlier = photos_by_key.get(photo.key)
        if earlier and "caption" in row:
            if (earlier.source, earlier.split) != (photo.source, photo.split):
                raise UserError(
                    f"{dataset}: row {number} ({photo.source}) and {earlier.source} share the key {photo.key} "
                    "or differ in split; rename one of them or add a column `key`"
                )
            photo = Photo(photo.key, photo.source, photo.split, earlier.captions + photo.captions)
        elif earlier:
            raise UserError(
                f"{dataset}: row {number} ({photo.source}) has the key of {earlier.source}; rename one of them"
            )
        photos_by_key[photo.key] = photo
    return locate_photos(safe_key(dataset.name), photos, list(photos_by_key.values()))


def _photo(dataset: Path, number: int, row: dict[str, Any]) -> Photo:
    """Returns the photo of one table row; raises UserError if a value has the wrong type."""
    source, captions = row["uri"], row.get("captions", row.get("caption"))
    captions = [captions] if isinstance(captions, str) else captions
    key = row.get("key") or (safe_key(source) if isinstance(source, str) else None)
    if (
        not isinstance(source, str)
        or not source
        or not isinstance(captions, list)
        or not all(isinstance(caption, str) for caption in captions)
        or not isinstance(key, str)
    ):
        raise UserError(f"{dataset}: row {number} ({source!r}): `uri`, captions and `key` must be text; correct it")
    if escapes_root(source):
        raise UserError(
            f"{dataset}: row {number} ('{source}'): a photo's path must stay below the photo root; correct the path"
        )
    return Photo(key, source, row.get("split") or "train", tuple(caption.strip() for caption in captions))


def _string_columns(path: Path) -> "pyarrow.csv.ConvertOptions":
    """Returns options that read all columns as text, so that the caption `12` does not become a number."""
    with pyarrow.csv.open_csv(path) as reader:
        names = reader.schema.names
    return pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
