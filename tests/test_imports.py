"""Which room may import which: jobs above pipelines above infra and shan_model, and the network stands alone."""

import ast
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

MAY_IMPORT = {
    "jobs": {"jobs", "pipelines", "infra", "shan_model"},
    "pipelines": {"pipelines", "infra", "shan_model"},
    "infra": {"infra"},
    "shan_model": {"shan_model"},
}
NEEDED_BY_THE_NETWORK = {"torch", "numpy", "safetensors"}
OF_AN_EXTRA = {"transformers"}
OURS = {*MAY_IMPORT, "tests", "scripts"}


def imports_of(source: str, package: str, *, at_load: bool = False) -> set[str]:
    """Top-level names that a module imports, anywhere in it; `package` is what its relative imports start from.

    `at_load`: only those of the module's own lines, which run wherever it is imported.
    """
    names: set[str] = set()
    tree = ast.parse(source)
    for node in tree.body if at_load else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(package if node.level else (node.module or "").split(".")[0])
    return names


def modules_of(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def strangers(path: Path) -> set[str]:
    room = path.relative_to(ROOT).parts[0]
    source = path.read_text(encoding="utf-8")
    imported = imports_of(source, room)
    refused = (imported & OURS) - MAY_IMPORT[room]
    if room == "shan_model":
        refused |= imported - OURS - NEEDED_BY_THE_NETWORK - OF_AN_EXTRA - set(sys.stdlib_module_names)
        refused |= imports_of(source, room, at_load=True) & OF_AN_EXTRA
    return refused


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_below_it(room):
    assert modules_of(room), f"no modules found in {room}"
    found = {str(path.relative_to(ROOT)): sorted(strangers(path)) for path in modules_of(room) if strangers(path)}
    assert not found


def test_every_kind_of_import_is_seen():
    source = "import a.b, c as d\nfrom e.f import g\nfrom . import h\ndef late():\n    from i import j\n"
    assert imports_of(source, "room") == {"a", "c", "e", "room", "i"}
    assert imports_of(source, "room", at_load=True) == {"a", "c", "e", "room"}
