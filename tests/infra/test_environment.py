"""The record of a run's software and hardware."""

import os
from importlib.metadata import version

import pytest

from infra.environment import available_cpus, environment


def test_the_record_has_versions_and_no_environment_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("A_SECRET", "value of a secret")
    found = environment()
    assert found["packages"]["torch"] == version("torch")
    assert found["cpus"] == os.cpu_count()
    assert "value of a secret" not in str(found)


def test_cpus_of_this_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3})
    assert available_cpus() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cpus() == os.cpu_count()
