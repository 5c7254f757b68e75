"""The code of a registered version: a copy of the modules that it needs, in a package with a name of its own.

Python keeps one module per name in a process, and MLflow only puts the folder of a model's code on `sys.path`. Under
the names of this project, a second version would run the code of the first, and a consumer's own packages `pipelines`
or `infra` would collide with it. The name of the copy therefore contains a hash of its content, and all imports within
it are relative.
"""

import ast
import hashlib
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.source_tree import PACKAGES, SOURCE_ROOT

PREFIX = "shan_line"
"""Name of the package, before `_<12 hex of its content>`."""
DATA = {
    "shan_model/native.py": "shan_model/kernels.cpp",
    "pipelines/detectors/embedded.py": "pipelines/detectors/weights/ssdlite_mobilenetv2_coco.safetensors",
}
"""Files that modules read from the folder of their package."""
PROJECT = dict.fromkeys(PACKAGES, SOURCE_ROOT)
"""The packages of this project and the folder that holds them."""


@dataclass(frozen=True)
class CarriedCode:
    """The copy of a script and of the modules behind it."""

    script: Path
    package: Path
    third_party: frozenset[str]
    """Top-level modules outside of the package and the standard library that it imports, also within functions."""


def carry_code(
    script: Path, folder: Path, modules: Collection[str] = (), roots: Mapping[str, Path] = PROJECT
) -> CarriedCode:
    """Writes a script, and the package of all modules that it or `modules` import, also indirectly, into `folder`.

    `roots` maps the top-level packages that are copied to the folders that hold them.
    """
    source = script.read_text(encoding="utf-8")
    files = _needed_files(source, modules, roots)
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    package = folder / f"{PREFIX}_{digest.hexdigest()[:12]}"
    for name, content in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    carried = folder / script.name
    carried.write_text(_prefix_imports(source, f"{package.name}.", roots), encoding="utf-8")
    sources = [source, *(content.decode() for name, content in files.items() if name.endswith(".py"))]
    third_party = frozenset(name for text in sources for name in _top_level_imports(text)) - set(roots)
    return CarriedCode(carried, package, third_party - sys.stdlib_module_names)


def _needed_files(source: str, modules: Collection[str], roots: Mapping[str, Path]) -> dict[str, bytes]:
    """Returns the files of the package by their paths in it: modules, the packages around them, and their data."""
    files = {"__init__.py": b'"""Code of a registered SHAN model, copied from shan-line when it was registered."""\n'}
    pending = [*_imported_modules(source, roots), *modules]
    seen: set[str] = set()
    while pending:
        module = pending.pop()
        if module in seen or not module:
            continue
        seen.add(module)
        root = roots[module.split(".")[0]]
        path = root.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not path.is_file():  # a name within a module, or a folder without code
            continue
        name = path.relative_to(root)
        text = path.read_text(encoding="utf-8")
        files[name.as_posix()] = _prefix_imports(text, "." * len(name.parts), roots).encode()
        if data := DATA.get(name.as_posix()):
            files[data] = (root / data).read_bytes()
        pending += [*_imported_modules(text, roots), module.rpartition(".")[0]]
    return files


def _imported_modules(source: str, roots: Mapping[str, Path]) -> Iterator[str]:
    """Yields the modules, and the names in them that may be modules, that a module imports, also within functions."""
    for node in _imports_from(source, roots):
        yield from (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))


def _prefix_imports(source: str, prefix: str, roots: Mapping[str, Path]) -> str:
    """Returns the source with `prefix` before the copied packages in its imports."""
    lines = source.splitlines(keepends=True)
    for node in _imports_from(source, roots, type_checking=True):
        line, statement = lines[node.lineno - 1], f"from {node.module}"
        assert line[node.col_offset :].startswith(statement), f"{line!r} does not start with {statement!r}"
        before, after = line[: node.col_offset], line[node.col_offset + len("from ") :]
        lines[node.lineno - 1] = f"{before}from {prefix}{after}"
    return "".join(lines)


def _imports_from(source: str, roots: Mapping[str, Path], *, type_checking: bool = False) -> Iterator[ast.ImportFrom]:
    """Yields the imports from copied packages; those under `if TYPE_CHECKING:` only if `type_checking` is set."""
    for node in _import_nodes(source, type_checking):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] in roots]
            assert not names, f"line {node.lineno}: carried code imports {names} as a name; use `from ... import`"
        elif not node.level and str(node.module).split(".")[0] in roots:
            yield node


def _top_level_imports(source: str) -> Iterator[str]:
    """Yields the top-level packages that a module imports by absolute names."""
    for node in _import_nodes(source, type_checking=False):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        if isinstance(node, ast.Import) or not node.level:
            yield from (name.split(".")[0] for name in names)


def _import_nodes(source: str, type_checking: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not type_checking:
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        pending += ast.iter_child_nodes(node)
