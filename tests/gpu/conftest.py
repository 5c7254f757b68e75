"""Collects the rows of the parity checks, prints them as a table and writes build/test-gpu.json.

`python -m tests.gpu` loads this file without tests/conftest.py, whose imports a bare GPU machine lacks.
"""

from pathlib import Path

import pytest

from tests.benchmarks.gpu.card import name_of
from tests.benchmarks.report import Measurement, table, write_json

JSON = Path("build/test-gpu.json")
ROWS = pytest.StashKey[list[Measurement]]()


@pytest.fixture(scope="session")
def rows(pytestconfig: pytest.Config) -> list[Measurement]:
    """The rows of the table."""
    return pytestconfig.stash.setdefault(ROWS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints and writes what was measured."""
    if measured := config.stash.get(ROWS, []):
        terminalreporter.write_line(table(measured))
        write_json(JSON, measured, device=name_of("cuda"))
        terminalreporter.write_line(f"{name_of('cuda')}; written: {JSON}")
