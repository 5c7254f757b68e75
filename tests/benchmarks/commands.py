"""The project's commands, as a user runs them. Needs nothing but Python, so that it runs on a bare GPU machine."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT


def run_command(folder: Path, *arguments: str) -> None:
    """Runs `python -m ARGUMENTS` in a folder; RuntimeError with the end of its output if it fails."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        output = (result.stdout + result.stderr)[-2000:]
        raise RuntimeError(f"{arguments[0]} exited with code {result.returncode}: {output}")
