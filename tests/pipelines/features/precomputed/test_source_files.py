"""The digest by which an import recognises its source files."""

from pathlib import Path

import pytest

from infra.errors import StorageError
from pipelines.features.precomputed.source_files import sampled_digest
from tests.support.bad_stores import UNREADABLE


def test_the_sampled_digest_covers_size_ends_and_middle(tmp_path: Path):
    path = tmp_path / "f"
    data = bytearray(10 * 2**20)
    path.write_bytes(data)
    seen = {sampled_digest(path)}
    for change in (slice(0, 1), slice(5 * 2**20, 5 * 2**20 + 2**18), slice(len(data) - 1, len(data))):
        data[change] = b"\1" * (change.stop - change.start)
        path.write_bytes(data)
        seen.add(sampled_digest(path))
    path.write_bytes(data + b"\0")
    seen.add(sampled_digest(path))
    assert len(seen) == 5


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs /proc")
def test_a_file_that_its_disk_cannot_read_is_named(tmp_path: Path):
    path = tmp_path / "f.tsv"
    path.symlink_to(UNREADABLE)
    with pytest.raises(StorageError, match=f"{path}: cannot be accessed .Input/output error"):
        sampled_digest(path)
