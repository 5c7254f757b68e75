"""Every benchmark of `make bench` runs once at tiny sizes, so that a change elsewhere cannot break one unnoticed."""

import subprocess
import sys

import pytest

from tests.support import ROOT


@pytest.mark.smoke
def test_every_benchmark_runs_at_tiny_sizes():
    command = [sys.executable, "-m", "tests.benchmarks", "--smoke"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert "FAILED" not in result.stdout, result.stdout + result.stderr
    assert result.returncode == 0, result.stderr
    for what in (
        "SHAN-full",
        "registered model",
        "step of 8",
        "batch of 8",
        "import of bottom-up TSV",
        "reading photo by photo",
        "rerun",
    ):
        assert what in result.stdout
