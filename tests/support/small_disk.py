"""A disk of one MiB, mounted for one process, to see what a full disk does."""

import functools
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

_UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


@functools.cache
def can_mount() -> bool:
    """Returns whether this user may mount a disk in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    mount = [*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


def run_on_small_disk(folder: Path, code: str, *arguments: str) -> str:
    """Runs Python code while `folder` is the disk, with these arguments; returns its output."""
    mount = 'mount -t tmpfs -o size=1m tmpfs "$1" && shift && exec "$@"'
    command = [*_UNSHARE, "bash", "-c", mount, "bash", str(folder), sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
