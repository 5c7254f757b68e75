"""The wheel, installed into an environment of its own, in a folder with packages of the same names as the project's."""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.source_tree import PACKAGES
from tests.support import ROOT

pytestmark = pytest.mark.long  # builds and installs the wheel


@dataclass(frozen=True)
class Installed:
    """The wheel, and the console script that it installs."""

    wheel: Path
    script: Path
    folder: Path
    """A folder with packages `infra`, `jobs`, `pipelines` and `shan_model` whose import fails."""

    def shan(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [self.script, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=400
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    source, built, folder, environment = (tmp_path_factory.mktemp(name) for name in ("src", "built", "cwd", "venv"))
    for name in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", f"--wheel-dir={built}"]
    subprocess.run([*pip, "wheel", *options, str(source)], check=True)
    (wheel,) = built.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    subprocess.run([*pip, f"--python={python}", "install", "--no-deps", "--no-index", str(wheel)], check=True)
    # The requirements are those of the environment that runs the tests.
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for name in PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise ImportError('this is another project')\n")
    return Installed(wheel, environment / "bin" / "shan", folder)


def test_the_wheel_contains_data_files_and_no_tests(installed: Installed):
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    suffixes = {".py", ".cpp", ".css", ".html", ".js", ".svg", ".safetensors", ".yaml"}
    expected = {name for name in listed if Path(name).suffix in suffixes and not name.startswith("infra/deploy/")}
    assert {name for name in names if Path(name).suffix in suffixes} == expected
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert "pipelines/detectors/weights/LICENSE" in names


def test_help_imports_no_command_and_takes_less_than_a_second(installed: Installed):
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        result = installed.shan("--help")
        seconds.append(time.perf_counter() - start)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("usage: shan COMMAND")
    assert min(seconds) < 1


def test_commands_find_this_project(installed: Installed):
    result = installed.shan("train", "--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: shan train --features URI --name NAME")
    result = installed.shan("train", "--features=nowhere", "--name=m", "--train.epochs=0")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: train.epochs is 0; it must be at least 1; see `shan train --help`\n"
    result = installed.shan("trian")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: unknown command 'trian'; choose one of quickstart, pipeline, extract")


@pytest.mark.cluster
def test_workers_and_child_processes_find_this_project(installed: Installed):
    """The quickstart starts workers of Ray Data and Ray Train, and a process that searches."""
    scenes = ["--scenes.train=24", "--scenes.val=8", "--scenes.test=8"]
    model = ["--model.joint_dim=16", "--model.word_dim=16", "--train.epochs=1", "--train.batch_size=8"]
    result = installed.shan("quickstart", *scenes, *model)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "another project" not in result.stdout + result.stderr
    assert (installed.folder / "build" / "search.html").is_file()
