"""Every module and every --help works without the functions of `os` that macOS does not have."""

import subprocess
import sys

import pytest

from tests.support import ROOT

MISSING_ON_MACOS = ("sched_getaffinity", "sched_setaffinity", "posix_fallocate", "posix_fadvise", "memfd_create")
IMPORT_EVERYTHING = f"""
import contextlib, importlib, io, os, pkgutil, sys
for name in {MISSING_ON_MACOS!r}:
    delattr(os, name)
from infra.environment import available_cpus
from infra.source_tree import PACKAGES
from jobs import cli
from jobs.main import COMMANDS
assert available_cpus() == os.cpu_count()
modules = [found.name for package in PACKAGES for found in pkgutil.walk_packages([package], package + ".")]
for module in modules:
    if module != "pipelines.models.pyfunc":  # the code of a registered model, which MLflow executes
        importlib.import_module(module)
for command in COMMANDS:
    sys.argv = ["shan", "--help"]
    output = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(output):
        importlib.import_module("jobs." + command).main()
    assert "usage: " in output.getvalue(), command
print(len(modules))
"""


@pytest.mark.long
def test_modules_and_help_without_functions_that_macos_lacks():
    command = [sys.executable, "-W", "ignore", "-c", IMPORT_EVERYTHING]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) > 100
