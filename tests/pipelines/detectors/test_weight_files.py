"""Tests of the verification of weight files."""

import pytest

from infra.errors import StorageError, UserError
from pipelines.detectors.weight_files import read_verified
from tests.support.bad_stores import UNREADABLE


def test_a_changed_or_missing_weight_file_is_refused(tmp_path):
    path = tmp_path / "weights"
    with pytest.raises(UserError, match="does not exist"):
        read_verified(path, "0" * 64)
    path.write_bytes(b"other")
    with pytest.raises(UserError, match="sha256"):
        read_verified(path, "0" * 64)


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs /proc")
def test_weights_that_their_disk_cannot_read_are_named(tmp_path):
    path = tmp_path / "weights"
    path.symlink_to(UNREADABLE)
    with pytest.raises(StorageError, match=f"{path}: cannot be accessed .Input/output error"):
        read_verified(path, "0" * 64)
