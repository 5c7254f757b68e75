"""Reading Parquet files starts no thread that could abort the process at its exit."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.parquet import read_parquet
from tests.support import ROOT


def test_some_columns_of_a_file_are_read(tmp_path: Path):
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}), tmp_path / "t.parquet")
    with (tmp_path / "t.parquet").open("rb") as file:
        assert read_parquet(file, ["b"]).to_pydict() == {"b": ["x", "y"]}
        assert read_parquet(file).column_names == ["a", "b"]
    with pytest.raises(ValueError, match="Parquet"):
        read_parquet(pa.BufferReader(b"not a Parquet file"))


def test_no_thread_is_started(tmp_path: Path):
    pq.write_table(pa.table({"a": list(range(1000))}), tmp_path / "t.parquet", row_group_size=10)
    code = (
        "import os, sys, pyarrow.parquet, infra.parquet; before = len(os.listdir('/proc/self/task'));"
        "infra.parquet.read_parquet(open(sys.argv[1], 'rb')); print(len(os.listdir('/proc/self/task')) - before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "t.parquet")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
