"""Reads Parquet files without threads of Arrow's, which can abort the process at its exit (apache/arrow#34314)."""

from collections.abc import Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq


def open_parquet(source: "IO[bytes] | pa.NativeFile") -> Any:
    """Returns a `pq.ParquetFile` that starts no thread if its methods are called with `use_threads=False`.

    Raises ArrowInvalid, which is a ValueError, or OSError if it is not a Parquet file.
    """
    return pq.ParquetFile(source, pre_buffer=False)


def read_parquet(source: "IO[bytes] | pa.NativeFile", columns: Sequence[str] | None = None) -> pa.Table:
    """Returns a Parquet file, or some columns of it, as a table; `pq.read_table` starts threads in any case.

    Raises as `open_parquet`.
    """
    return open_parquet(source).read(columns=columns and list(columns), use_threads=False)
