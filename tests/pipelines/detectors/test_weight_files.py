"""Tests of the verification of weight files."""

import pytest

from infra.errors import UserError
from pipelines.detectors.weight_files import read_verified


def test_a_changed_or_missing_weight_file_is_refused(tmp_path):
    path = tmp_path / "weights"
    with pytest.raises(UserError, match="does not exist"):
        read_verified(path, "0" * 64)
    path.write_bytes(b"other")
    with pytest.raises(UserError, match="sha256"):
        read_verified(path, "0" * 64)
