"""Bytecode beside code: accepted if it is compiled from its source, whatever process wrote it."""

import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.lineage.bytecode import changed_bytecode

SOURCE = """
import os as name
LONG, SMALL, REAL, WIDE = 2**90, -5, 1.5j, "\u0436\U0001f600"
def outer(a, *, b=None):
    "A docstring."
    assert a
    def inner():
        return [each for each in b if each in {"a", "b", "name", 7, (1, 2)}] or ... or b"bytes" or a
    return inner
class Other:
    field: int = True
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


@pytest.mark.parametrize("optimize", [[], ["-O"], ["-OO"]], ids=str)
def test_bytecode_that_an_import_wrote_is_accepted(source: Path, optimize: list[str]):
    command = [sys.executable, *optimize, "-S", "-c", "import a"]
    subprocess.run(command, cwd=source.parent, check=True, timeout=60, env={"PYTHONHASHSEED": "1"})
    assert len(list(source.parent.rglob("*.pyc"))) == 1
    assert changed_bytecode(source.parent) == ([], [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-5", "-6"),
        ("b=None", "b=True"),
        ("field", "other"),
        ("True", "1"),
        ("1.5j", "2.5j"),
        ('"b", ', ""),
        ("\nclass", "class"),
    ],
)
def test_bytecode_of_other_code_is_changed(source: Path, old: str, new: str):
    cached = Path(py_compile.compile(str(source)))
    assert old in SOURCE
    source.write_text(SOURCE.replace(old, new), encoding="utf-8")
    assert changed_bytecode(source.parent) == ([f"__pycache__/{cached.name}"], [])


@pytest.mark.parametrize("size", [0, 10, 16, 17, 100], ids=str)
def test_truncated_bytecode_is_changed(source: Path, size: int):
    cached = Path(py_compile.compile(str(source)))
    cached.write_bytes(cached.read_bytes()[:size])
    assert changed_bytecode(source.parent) == ([f"__pycache__/{cached.name}"], [])


@pytest.mark.parametrize(
    "mode", [py_compile.PycInvalidationMode.CHECKED_HASH, py_compile.PycInvalidationMode.UNCHECKED_HASH]
)
def test_bytecode_that_no_import_writes_is_changed(source: Path, mode: py_compile.PycInvalidationMode):
    cached = Path(py_compile.compile(str(source), invalidation_mode=mode))
    assert changed_bytecode(source.parent) == ([f"__pycache__/{cached.name}"], [])


def test_files_without_a_source_are_changed(source: Path):
    cached = Path(py_compile.compile(str(source)))
    source.unlink()
    (cached.parent / "b.py").write_text("")
    assert changed_bytecode(source.parent) == ([f"__pycache__/{cached.name}", "__pycache__/b.py"], [])


def test_bytecode_of_another_python_is_unknown(source: Path):
    cached = Path(py_compile.compile(str(source)))
    other = cached.rename(cached.with_name("a.cpython-39.pyc"))
    assert changed_bytecode(source.parent) == ([], [f"__pycache__/{other.name}"])
