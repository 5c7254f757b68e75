"""The stored speed of an extraction as a table. `test_html_report.py` has it on a page."""

from pathlib import Path

import pytest

from infra.canonical_json import canonical_json
from infra.storage.folder import FolderStore
from pipelines.features.speed_report import read_speed, speed_table

STAGES = [
    {"name": "fetch", "photos_per_s": 1234.4, "processes": 0.014, "queue": 2.25},
    {"name": "detect", "photos_per_s": 5.234, "processes": 1.731, "queue": 6.5},
]
REPORT = {"photos": 1200, "seconds": 75.2, "bottleneck": "detect", "stages": STAGES}


def test_a_row_for_each_stage():
    table = speed_table(REPORT)
    assert table.header == ("1,200 photos in 75 s", "photos/s", "processes", "queue")
    assert list(table.rows) == [
        ("fetch", "1,234", "0.01", "2.2"),
        ("detect (bottleneck)", "5.23", "1.73", "6.5"),
    ]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"stages": 1}', canonical_json(REPORT | {"stages": [{}]})])
def test_what_cannot_be_read_counts_as_absent(tmp_path: Path, content: bytes):
    store = FolderStore(tmp_path)
    assert read_speed(store) is None
    store.replace("report.json", canonical_json(REPORT))
    assert read_speed(store) == speed_table(REPORT)
    store.replace("report.json", content)
    assert read_speed(store) is None
