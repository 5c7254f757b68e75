"""Where the project's packages are, and how its commands start."""

import sys

import pytest

from infra.source_tree import PACKAGES, SOURCE_ROOT, program
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
