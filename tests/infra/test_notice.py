"""A long wait is named, a short one is not."""

import sys

import pytest

from infra.notice import notice
from tests.support.processes import wait_until


def test_only_a_long_wait_prints_its_line(capsys: pytest.CaptureFixture[str]):
    with notice("waiting for a short time", 60):
        pass
    with notice("waiting for long", 0.0):
        wait_until(lambda: "waiting" in sys.stderr.getvalue(), timeout_s=60)
    assert capsys.readouterr().err == "waiting for long\n"
