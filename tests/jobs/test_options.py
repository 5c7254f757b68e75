"""The options of every command are frozen: a change must be made on purpose, together with the docs and CHANGELOG.

After such a change, update the list: UPDATE_OPTIONS=1 .venv/bin/python -m pytest tests/jobs/test_options.py
"""

import importlib
import os
import re
import sys
from collections import defaultdict
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

from jobs import cli, features, index, options
from jobs.main import COMMANDS
from tests.support import ROOT

FROZEN = Path(__file__).with_name("options.txt")
SUBCOMMANDS = [("features", name) for name in features.COMMANDS] + [("index", name) for name in index.COMMANDS]
ALL = [*((name,) for name in COMMANDS if name != "features"), *SUBCOMMANDS]
NOT_COMMANDS = {"__init__", "cli", "config", "config_files", "main", "messages", "options"}
OF_CONFIG = {"--config", "--log-format", "--preset", "--print_config"}
"""Options that `cli.parse` adds, besides the fields of the sections."""

PRINTS = "Print the configuration and exit."


@cache
def help_texts() -> dict[str, str]:
    """Returns the help of every command and subcommand."""
    return {" ".join(command): help_of(*command) for command in ALL}


def help_of(module: str, *arguments: str) -> str:
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
        patch.setattr(sys, "argv", [module, *arguments, "--help"])
        with pytest.raises(SystemExit) as caught:
            cli.run(importlib.import_module(f"jobs.{module}").main)
    assert caught.value.code == 0
    return out.getvalue()


def options_of(text: str) -> dict[str, str]:
    """Returns the options and positional arguments that a help text lists, each with its help."""
    _, *listed = re.split(r"^  (?:-h, )?(--[\w.-]+|[A-Za-z_]+)(?=[ \n,]|$)", text.partition("\n\n")[2], flags=re.M)
    helps = [" ".join(rest.partition("\n\n")[0].split()) for rest in listed[1::2]]
    return {name: help_ for name, help_ in zip(listed[::2], helps, strict=True) if name != "--help"}


def test_every_module_of_a_command_is_a_command():
    modules = {path.stem for path in (ROOT / "jobs").glob("*.py")} - NOT_COMMANDS
    assert modules == set(COMMANDS)


def test_options_are_those_of_the_frozen_list():
    lines = []
    for command, text in help_texts().items():
        assert "[D" not in text, f"{command}: write that the paper does not state it"
        assert "<class" not in text, f"{command}: name the type"
        assert options_of(text).get("--print_config", PRINTS) == PRINTS
        lines += [f"{command} {option}" for option in options_of(text)]
    if "UPDATE_OPTIONS" in os.environ:
        FROZEN.write_text("".join(f"{line}\n" for line in sorted(lines)))
    frozen = FROZEN.read_text().splitlines()
    added, removed = sorted(set(lines) - set(frozen)), sorted(set(frozen) - set(lines))
    assert not added + removed, f"added {added}, removed {removed}; if on purpose, see the top of {__file__}"


def test_usage_of_index_lists_its_subcommands():
    usage, _, _ = help_texts()["index"].partition("\n\n")
    assert "python -m jobs.index --model MODEL" in usage
    assert f"python -m jobs.index {{{','.join(index.COMMANDS)}}} [--help] ..." in usage


def test_queries_of_search_are_optional():
    assert options_of(help_texts()["search"])["QUERY"] == "Text queries. (type: str)"


def test_an_option_means_the_same_in_every_command():
    """Options and arguments of several commands are shared ones, and have the same help in all of them."""
    found: dict[str, list[str]] = defaultdict(list)
    for text in help_texts().values():
        for name, help_ in options_of(text).items():
            found[name].append(help_)
    shared = {name if name.startswith("--") else name.upper(): about["help"] for name, about in options.SHARED.items()}
    several = {name for name, texts in found.items() if len(texts) > 1 and "." not in name}
    assert several - OF_CONFIG == shared.keys()
    for name, help_ in shared.items():
        assert all(help_ in text for text in found[name]), (name, found[name])
