"""Exit codes of submitted jobs; tests/cluster/test_submit.py follows real jobs."""

from types import SimpleNamespace
from typing import Any

import pytest

from infra.job_log import STOPPED, report_end


@pytest.mark.parametrize(
    ("status", "driver_exit_code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", None, 1),
        ("FAILED", -9, 137),  # as shells report a process killed by signal 9
        ("STOPPED", None, STOPPED),
    ],
)
def test_exit_codes(status: str, driver_exit_code: int | None, expected: int):
    details: Any = SimpleNamespace(
        submission_id="train-0.1", status=status, message="message", driver_exit_code=driver_exit_code
    )
    assert report_end(details) == expected
