"""Where the project's packages are, and how its commands start."""

import sys

import pytest

from infra.source_tree import COMMAND_VARIABLE, PACKAGES, SOURCE_ROOT, command_line, program
from tests.support import ROOT


def test_the_packages_are_in_the_source_root():
    assert SOURCE_ROOT == ROOT
    assert all((SOURCE_ROOT / package / "__init__.py").is_file() for package in PACKAGES)


@pytest.mark.parametrize(
    ("started", "shown"),
    [("/usr/bin/shan", "shan train"), ("/x/jobs/train.py", "python -m jobs.train"), ("", "python -m jobs.train")],
)
def test_a_command_is_shown_as_the_user_starts_it(started: str, shown: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", [started])
    assert program("train") == shown


def test_a_submitted_job_is_started_by_what_submitted_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/shan"])
    assert command_line("train", ["--name", "a b"]) == "shan train --name 'a b'"
    monkeypatch.setenv(COMMAND_VARIABLE, "shan submit train --name 'a b' --address http://head:8265")
    assert command_line("train", ["--name", "a b"]) == "shan submit train --name 'a b' --address http://head:8265"
