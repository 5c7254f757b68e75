"""The console entry point `shan`, in this process."""

import importlib
import json
import sys

import pytest

from infra import log
from jobs.main import COMMANDS, main


def run(*argv: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """Runs `shan` with these arguments; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["shan", *argv])
    try:
        main()
    except SystemExit as ended:
        return ended.code
    return 0


def test_an_interrupt_of_the_import_is_one_line(monkeypatch, capsys):
    """Importing a command takes seconds, in which Ctrl-C printed a traceback."""

    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert run("train", monkeypatch=monkeypatch) == 130
    assert capsys.readouterr().err == "interrupted\n"


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


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_logs_json(command, monkeypatch, capsys):
    arguments = ["verify"] if command == "features" else []
    code = run(command, *arguments, "--log-format", "json", "--no-such-option", monkeypatch=monkeypatch)
    log.configure("text")
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (code, line["event"], line["level"], line["exit_code"]) == (2, "job_failed", "error", 2)
    assert line["job"] == " ".join([command, *arguments])
