"""The options of every command are frozen: a change must be made on purpose, together with the docs and CHANGELOG.

After such a change, update the list: UPDATE_OPTIONS=1 .venv/bin/python -m pytest tests/jobs/test_options.py
"""

import importlib
import os
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from jobs import cli, features
from jobs.main import COMMANDS
from tests.support import ROOT

FROZEN = Path(__file__).with_name("options.txt")
SUBCOMMANDS = [("features", name) for name in features.COMMANDS]
NOT_COMMANDS = {"__init__", "cli", "config", "main"}


def help_of(module: str, *arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", [module, *arguments, "--help"])
    with pytest.raises(SystemExit) as caught:
        cli.run(importlib.import_module(f"jobs.{module}").main)
    assert caught.value.code == 0
    return capsys.readouterr().out


def options_of(text: str) -> list[str]:
    """Returns the options and positional arguments that a help text lists, sorted."""
    listed = re.findall(r"^  (?:-h, )?(--[\w.-]+|[A-Za-z_]+)(?=[ \n,]|$)", text.partition("\n\n")[2], re.MULTILINE)
    return sorted({option for option in listed if option != "--help"})


def test_every_module_of_a_command_is_a_command():
    modules = {path.stem for path in (ROOT / "jobs").glob("*.py")} - NOT_COMMANDS
    assert modules == set(COMMANDS)


def test_options_are_those_of_the_frozen_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    lines = []
    for command in [*((name,) for name in COMMANDS if name != "features"), *SUBCOMMANDS]:
        text = help_of(*command, monkeypatch=monkeypatch, capsys=capsys)
        assert "[D" not in text, f"{command}: write that the paper does not state it"
        assert "<class" not in text, f"{command}: name the type"
        lines += [f"{' '.join(command)} {option}" for option in options_of(text)]
    if "UPDATE_OPTIONS" in os.environ:
        FROZEN.write_text("".join(f"{line}\n" for line in sorted(lines)))
    frozen = FROZEN.read_text().splitlines()
    added, removed = sorted(set(lines) - set(frozen)), sorted(set(frozen) - set(lines))
    assert not added + removed, f"added {added}, removed {removed}; if on purpose, see the top of {__file__}"


def test_an_option_means_the_same_in_every_command():
    """`--model` is a model's URI, `--features` a feature set's, `--feature-root` the folder of several."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in FROZEN.read_text().splitlines():
        *command, option = line.split()
        found[option].add(" ".join(command))
    assert found["--model"] == {"behaviour", "evaluate", "search", "two_stage"}
    assert found["--feature-root"] == {"status"}
    assert found["--features"] == {"behaviour", "evaluate", "promote", "search", "sweep", "train", "two_stage"}
    assert found["--name"] == {"pipeline", "promote", "sweep", "train"}
