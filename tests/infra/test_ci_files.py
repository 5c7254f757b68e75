"""The workflow, the pre-commit hooks and `.ci/run` call targets of the Makefile; the supported Pythons agree."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT

WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
PYTHONS = ["3.11", "3.12", "3.13"]


def targets(command: str) -> list[str]:
    """Returns the targets of a `make` command line."""
    program, *words = command.split()
    assert program == "make"
    return [word for word in words if "=" not in word]


def steps(job: dict[str, Any]) -> list[str]:
    return [target for step in job["steps"] for target in (targets(step["run"]) if "run" in step else [])]


@pytest.mark.integration
def test_tests_that_share_servers_run_in_one_process(request: pytest.FixtureRequest):
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("only with --dist loadgroup")
    assert request.node.nodeid.endswith("@infra")  # what pytest-xdist's scheduler groups by


def test_every_target_exists():
    called = [target for job in WORKFLOW["jobs"].values() for target in steps(job)]
    called += [target for repo in HOOKS["repos"] for hook in repo["hooks"] for target in targets(hook["entry"])]
    defined = re.findall(r"^([\w./-]+):", MAKEFILE, re.MULTILINE)
    assert set(called) == {"lint", "types", "promtool", "test"}
    assert set(called) <= set(defined)
    (in_ci_run,) = re.findall(r"^for step in (.+); do$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert "  make promtool ||" in (ROOT / ".ci" / "run").read_text()
    assert {"lint", "types", "test"} <= set(in_ci_run.replace('"', "").split()) <= set(defined)


def test_the_workflow_checks_quality_once_and_tests_every_python():
    quality, tests = WORKFLOW["jobs"]["quality"], WORKFLOW["jobs"]["tests"]
    assert steps(quality) == ["lint", "types"]
    assert steps(tests) == ["promtool", "test"]  # without it, the queries of dashboards and alerts are not parsed
    assert tests["strategy"]["matrix"]["python-version"] == PYTHONS
    assert set(WORKFLOW[True]) == {"push", "pull_request"}  # YAML 1.1 reads the key `on` as true
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_hooks_run_on_the_whole_tree():
    (repo,) = HOOKS["repos"]
    assert repo["repo"] == "local"
    assert [hook["entry"] for hook in repo["hooks"]] == ["make lint", "make types"]
    assert all(hook["language"] == "system" and hook["pass_filenames"] is False for hook in repo["hooks"])


def test_supported_pythons():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11,<3.14"
    listed = [each.rpartition(" ")[2] for each in project["project"]["classifiers"]]
    assert listed == PYTHONS
    assert project["tool"]["ruff"]["target-version"] == "py311"
    assert project["tool"]["mypy"]["python_version"] == "3.11"


def fake_python(folder: Path, name: str, version: str) -> None:
    """Writes a program that answers as `python -c` of that version does to the Makefile's question."""
    minor = int(version.partition(".")[2])
    (folder / name).write_text(f"#!/bin/sh\nexit {0 if 11 <= minor <= 13 else 1}\n")
    (folder / name).chmod(0o755)


def chosen_python(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Runs the rule that creates .venv without executing it, with only the programs of `folder` as Pythons."""
    (folder / "Makefile").write_text(MAKEFILE + '\nshow-python:\n\t@echo "[$(PYTHON)]"\n')
    tools = {name: Path(found) for name in ("make", "bash", "sh", "grep", "awk") if (found := _which(name))}
    for name, path in tools.items():
        if not (folder / name).exists():
            (folder / name).symlink_to(path)
    environment = {"PATH": str(folder), "HOME": str(folder)}
    return subprocess.run(
        [folder / "make", "show-python"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def _which(name: str) -> str | None:
    return next((f"{d}/{name}" for d in os.environ["PATH"].split(":") if Path(d, name).exists()), None)


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        ({"python3": "3.11", "python3.11": "3.11", "python3.12": "3.12"}, "python3.12"),
        ({"python3.13": "3.13", "python3.11": "3.11"}, "python3.13"),
        ({"python3.13": "3.9", "python3.11": "3.11"}, "python3.11"),  # a shim whose Python is not active
        ({"python3": "3.12"}, "python3"),
        ({"python3": "3.14"}, ""),
        ({}, ""),
    ],
)
def test_make_takes_the_newest_supported_python(tmp_path: Path, present: dict[str, str], chosen: str):
    for name, version in present.items():
        fake_python(tmp_path, name, version)
    assert chosen_python(tmp_path).stdout == f"[{chosen}]\n"


def test_options_of_make_reproduce_are_added_to_those_of_one_gpu():
    command = [
        "make",
        "--no-print-directory",
        "--dry-run",
        "reproduce",
        "DATA=mine",
        "OPTIONS=--train.word_vectors v.txt",
    ]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = " ".join(printed.replace("\\\n", " ").split())
    assert "jobs.reproduce --features mine --report build/reproduce.html" in words
    assert words.endswith("--train.use_gpu true --train.num_workers 1 --train.word_vectors v.txt")


def test_make_without_a_supported_python_prints_what_is_missing(tmp_path: Path):
    fake_python(tmp_path, "python3", "3.14")
    chosen_python(tmp_path)
    result = subprocess.run(
        [tmp_path / "make", ".venv/bin/python"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "error: no Python 3.11, 3.12 or 3.13 found (PYTHON is ''); install one of them or run make" in result.stdout
