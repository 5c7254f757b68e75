"""The layers of the packages, and that imports of modules and of packages form no cycle.

Imports within functions count, those under `if TYPE_CHECKING:` do not. A package imports its own modules and those of
lower layers only; packages that share a layer do not import each other, unless ALSO lists it.
"""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support import ROOT

LAYERS = (
    ("jobs",),
    ("pipelines.quickstart", "pipelines.reproduction"),
    ("pipelines.pipeline",),
    ("pipelines.evaluation", "pipelines.training", "pipelines.lineage", "pipelines.service", "pipelines.status"),
    ("pipelines.search",),
    ("pipelines.extraction", "pipelines.models", "pipelines.failed"),
    ("pipelines.features",),
    ("pipelines.reports",),
    ("pipelines.datasets", "pipelines.detectors"),
    ("shan_model", "infra"),
)
"""Packages from the top layer to the bottom."""
ALSO: set[tuple[str, str]] = set()
"""Imports within a layer: (package, imported package)."""
APART = {
    *("infra.errors", "infra.file_lock", "infra.in_thread", "infra.log", "infra.metrics", "infra.minimum_rate"),
    *("infra.notice", "infra.paths", "infra.redaction"),
    *("shan_model.batched_matcher", "shan_model.config", "shan_model.padding", "shan_model.ragged"),
    "pipelines.features.commands",
}
"""Modules that count as packages of their own. `infra.storage` and `shan_model.baselines` are between these modules and
the rest of the package around them, `pipelines.features.precomputed` is between the rest and `commands`."""
PROJECT = ("infra", "jobs", "pipelines", "shan_model")
SHARED_BY_COMMANDS = {"jobs", "jobs.cli", "jobs.config", "jobs.config_files", "jobs.messages", "jobs.options"}
"""What a command may import of `jobs`."""
NETWORK_REQUIREMENTS = {"torch", "numpy", "safetensors"}
"""All that `shan_model` may require, because it is packaged into registered models."""
OPTIONAL_REQUIREMENTS = {"transformers"}
"""Requirements of an extra, which `shan_model` imports only where they are used."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in PROJECT for path in sorted((ROOT / package).rglob("*.py"))}


def imports(source: str, package: str = "", *, inside_functions: bool = True) -> set[str]:
    """Returns the dotted names that a module of `package` imports; for `from a import b`, both `a` and `a.b`."""
    names: set[str] = set()
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {origin} | {f"{origin}.{alias.name}" for alias in node.names}
        pending += ast.iter_child_nodes(node)
    return names


def imported_modules(module: str) -> set[str]:
    """Returns the modules of this project that a module imports, without itself.

    `from package import module` counts as an import of the module, not of the package's docstring.
    """
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = imports(path.read_text(encoding="utf-8"), package) & MODULES.keys()
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)} - {module}


def layer_of(module: str) -> tuple[int, str]:
    """Returns the number of a module's layer, counted from the top, and its package in LAYERS."""
    for number, packages in enumerate(LAYERS):
        for package in packages:
            if module == package or module.startswith(f"{package}."):
                return number, package
    raise LookupError(module)


def allowed(importing: str, imported: str) -> bool:
    (upper, package), (lower, other) = layer_of(importing), layer_of(imported)
    return package == other or upper < lower or (package, other) in ALSO


def package_of(module: str) -> str:
    """Returns the innermost package of a module; the module itself if it is one or is in APART."""
    is_package = MODULES[module].name == "__init__.py"
    return module if is_package or module in APART else module.rpartition(".")[0]


def cycle_among(graph: dict[str, set[str]]) -> list[str]:
    """Returns the nodes of a cycle; empty without a cycle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_module_has_a_layer():
    assert len(MODULES) > 100
    for module in MODULES.keys() - {"pipelines"}:
        layer_of(module)


def test_packages_import_only_lower_layers():
    found = [
        f"{module} imports {imported}"
        for module in MODULES
        for imported in imported_modules(module)
        if not allowed(module, imported)
    ]
    assert not found, sorted(found)


def test_no_import_cycles_between_modules():
    assert not cycle_among({module: imported_modules(module) for module in MODULES})


def test_no_import_cycles_between_packages():
    """Each package, inner ones included, is above or below each other one."""
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        package = package_of(module)
        graph.setdefault(package, set()).update({package_of(name) for name in imported_modules(module)} - {package})
    assert not cycle_among(graph)


def test_no_command_imports_a_command():
    commands = {module for module in MODULES if module.startswith("jobs.")} - SHARED_BY_COMMANDS
    found = [(module, name) for module in commands for name in imported_modules(module) & commands]
    assert not found, sorted(found)


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("shan_model")])
def test_the_network_requires_little(module: str):
    path = MODULES[module]
    source, package = path.read_text(encoding="utf-8"), module.rpartition(".")[0]
    known = NETWORK_REQUIREMENTS | OPTIONAL_REQUIREMENTS | set(sys.stdlib_module_names) | {"shan_model"}
    assert {name.partition(".")[0] for name in imports(source, package)} <= known
    at_load = {name.partition(".")[0] for name in imports(source, package, inside_functions=False)}
    assert not at_load & OPTIONAL_REQUIREMENTS


def test_imports_of_every_form_are_found():
    source = (
        "import a.b, c as d\nfrom e.f import g\nfrom . import h\nfrom ..i import j\n"
        "if TYPE_CHECKING:\n    import k\nelse:\n    import l\n"
        "class M:\n    def late(self):\n        from n import o\n"
        "try:\n    import p\nexcept ImportError:\n    pass\n"
    )
    everywhere = {"a.b", "c", "e.f", "e.f.g", "x.y", "x.y.h", "x.i", "x.i.j", "l", "n", "n.o", "p"}
    assert imports(source, "x.y") == everywhere
    assert imports(source, "x.y", inside_functions=False) == everywhere - {"n", "n.o"}


def test_a_cycle_and_a_wrong_layer_would_be_found():
    assert cycle_among({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not cycle_among({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    assert allowed("jobs.train", "pipelines.training.train")
    assert not allowed("pipelines.features.shards", "pipelines.training.train")
    assert not allowed("pipelines.training.train", "pipelines.evaluation.score")
    assert not allowed("shan_model.model", "infra.errors")
