"""Reads single images of a Parquet file in any store: a binary column, or Hugging Face's struct {bytes, path}.

A row group is the unit of reading. Each process keeps the last one, which its threads share, so consecutive rows cost
one read.
"""

from typing import Any

import pyarrow as pa

from infra.errors import StorageError
from infra.parquet import open_parquet
from infra.single_flight import single_flight_cache
from infra.storage.base import Store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.ranged_file import RangedFile, recent_version


def is_image_type(type_: pa.DataType) -> bool:
    """Returns whether the values of a column are images themselves."""
    return is_image_struct(type_) or pa.types.is_binary(type_) or pa.types.is_large_binary(type_)


def is_image_struct(type_: pa.DataType) -> bool:
    """Returns whether the values of a column are structs with `bytes`."""
    return bool(pa.types.is_struct(type_)) and type_.get_field_index("bytes") >= 0


def read_parquet_image(store: Store, name: str, member: str, max_bytes: int) -> bytes:
    """Returns the first `max_bytes` bytes of the image `member`, `<column>/<row>`; rows are numbered from 0.

    Raises PhotoError if the file does not exist, is not a Parquet file, or lacks the image.
    """
    column, _, row = member.rpartition("/")
    try:
        image = _image(store, name, column, int(row))
    except StorageError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        if getattr(error, "errno", None) is not None:  # of the disk; Arrow's own errors have none
            raise
        raise PhotoError("its Parquet file does not exist or cannot be read") from error
    if image is None:
        raise PhotoError("not in its Parquet file")
    return image[:max_bytes]


def _image(store: Store, name: str, column: str, row: int) -> bytes | None:
    """Returns an image; None if the file has no such column or row, or if the value is missing."""
    version = recent_version(store, name)
    file = _open(store, name, version)
    type_ = file.schema_arrow.field(column).type if column in file.schema_arrow.names else None
    if type_ is None or not is_image_type(type_):
        return None
    leaf = f"{column}.bytes" if is_image_struct(type_) else column
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if row < count:
            value = _row_group(store, name, version, leaf, group)[row].as_py()
            return value.get("bytes") if isinstance(value, dict) else value
        row -= count
    return None


@single_flight_cache(8)
def _open(store: Store, name: str, _version: str) -> Any:
    return open_parquet(RangedFile(store, name))


@single_flight_cache(1)
def _row_group(store: Store, name: str, version: str, leaf: str, group: int) -> Any:
    return _open(store, name, version).read_row_group(group, columns=[leaf], use_threads=False).column(0)
