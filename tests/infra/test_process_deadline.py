"""Work that hangs ends its process."""

import subprocess
import sys
import time

from tests.support import ROOT


def run(seconds: float) -> "subprocess.CompletedProcess[str]":
    code = f"""
import time
from infra.process_deadline import process_deadline
with process_deadline(1):
    time.sleep({seconds})
time.sleep(1.5)
print("done")
"""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_work_within_the_deadline_continues():
    assert (run(0).returncode, run(0).stdout) == (0, "done\n")


def test_work_that_hangs_ends_its_process_with_a_traceback():
    start = time.monotonic()
    hung = run(50)
    assert (hung.returncode, hung.stdout) == (1, "")
    assert "Timeout" in hung.stderr
    assert time.monotonic() - start < 20
