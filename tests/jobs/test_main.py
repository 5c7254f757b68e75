"""The console entry point `shan`, in this process."""

import signal
import subprocess
import sys

import pytest

from jobs.main import COMMANDS, main
from tests.support import ROOT


def run(*argv: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """Runs `shan` with these arguments; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["shan", *argv])
    try:
        main()
    except SystemExit as ended:
        return ended.code
    return 0


def test_interrupt_during_imports_is_one_line():
    """Importing a command takes seconds, in which Ctrl-C printed a traceback."""
    code = "import jobs; raise KeyboardInterrupt"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (-signal.SIGINT, "interrupted\n")


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",)])
def test_help_lists_every_command(argv, monkeypatch, capsys):
    assert run(*argv, monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: shan COMMAND")
    assert all(f"  {name} " in out for name in COMMANDS)


def test_a_command_gets_its_arguments(monkeypatch, capsys):
    assert run("features", "--help", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.startswith("usage: shan features COMMAND")


def test_an_unknown_command_is_one_line_with_exit_code_2(monkeypatch, capsys):
    assert run("trian", monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err == f"error: unknown command 'trian'; choose one of {', '.join(COMMANDS)}\n"
