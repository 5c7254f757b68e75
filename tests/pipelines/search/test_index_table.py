"""The table of search indexes: finished, unfinished, incomplete and corrupt ones, and nothing else."""

import shutil
from pathlib import Path

from infra.storage.open import open_store
from pipelines.search.index_build import IndexBuild
from pipelines.search.index_table import index_table


def test_indexes_in_every_state(built: IndexBuild, tmp_path: Path):
    for name in ("intact", "unfinished", "incomplete", "corrupt"):
        shutil.copytree(built.store.uri, tmp_path / name)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.json").write_text("{}")
    (tmp_path / "unfinished" / "index.json").unlink()
    next((tmp_path / "incomplete").glob("*.boxes.npy")).unlink()
    (tmp_path / "corrupt" / "index.json").write_text("{}")
    rows = {row[0]: row[1:] for row in index_table(open_store(str(tmp_path))).rows}
    partitions = str(len(built.document.receipts()))
    invalid = "index.json is not valid: its format is 'None', this release reads 'shan-index/1'"
    assert rows == {
        "corrupt": [invalid, "", "", partitions, "0.00", ""],
        "incomplete": ["1 objects are missing", "59", "118", partitions, "0.00", built.document.model.uri],
        "intact": [f"finished {built.uri[-13:]}", "59", "118", partitions, "0.00", built.document.model.uri],
        "unfinished": ["not finished", "", "", partitions, "0.00", ""],
    }


def test_a_root_without_indexes(tmp_path: Path):
    assert index_table(open_store(str(tmp_path / "nowhere"))).rows == []
