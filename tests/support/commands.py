"""The project's commands, run in a process of their own or in the test process."""

import importlib
import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from infra import log
from jobs import cli
from tests.support import ROOT


def run_command(folder: Path, *arguments: str, code: int = 0) -> str:
    """Runs `python -m ARGUMENTS` in a folder and checks its exit code. Returns stdout, or stderr if `code` is not 0."""
    result = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr if code else result.stdout


def run_here(folder: Path, *arguments: str, code: int = 0) -> str:
    """Does what `run_command` does in this process, on its Ray session, which saves the time of starting both."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", list(arguments))
        with pytest.raises(SystemExit) as caught:
            cli.run(importlib.import_module(arguments[0]).main)
    log.configure("text")  # the command may have set JSON
    assert caught.value.code == code, out.getvalue() + err.getvalue()
    return err.getvalue() if code else out.getvalue()


def call_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str, *arguments: str
) -> tuple[int, str, str]:
    """Runs the command of a module in this process. Returns its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        cli.run(importlib.import_module(module).main)
    log.configure("text")  # the command may have set JSON
    out, err = capsys.readouterr()
    return int(str(caught.value.code)), out, err
