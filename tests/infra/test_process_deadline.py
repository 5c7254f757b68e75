"""Work that hangs ends its process."""

import subprocess
import sys
import time

from tests.support import ROOT


def run(seconds: float) -> "subprocess.CompletedProcess[str]":
    """Runs work of that duration with a deadline of half a second, and then waits for longer than the deadline."""
    code = f"""
import time
from infra.process_deadline import process_deadline
with process_deadline(0.5):
    time.sleep({seconds})
time.sleep(0.6)  # a deadline that was not cancelled would end the process meanwhile
print("done")
"""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_work_within_the_deadline_continues():
    done = run(0)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_work_that_hangs_ends_its_process_with_a_traceback():
    start = time.monotonic()
    hung = run(50)
    assert (hung.returncode, hung.stdout) == (1, "")
    assert "Timeout" in hung.stderr
    assert time.monotonic() - start < 20
