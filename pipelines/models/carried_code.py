"""The code of a registered version: a copy of the modules that it needs, in a package with a name of its own.

Python keeps one module per name in a process, and MLflow only puts the folder of a model's code on `sys.path`. Under
the names of this project, a second version would run the code of the first, and a consumer's own packages `pipelines`
or `infra` would collide with it. The name of the copy therefore contains a hash of its content, and all imports within
it are relative.
"""

import ast
import hashlib
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

from infra.errors import UserError
from infra.paths import is_dir, is_file
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
_SCRIPT = Path(__file__).with_name("pyfunc.py")
_DOCSTRING = b'"""Code of a registered SHAN model, copied from shan-line when it was registered."""\n'


@dataclass(frozen=True)
class CarriedCode:
    """The copy of `pyfunc.py` and of the modules behind it."""

    script: Path
    package: Path
    third_party: Mapping[str, Collection[str]]
    """Top-level modules outside of the package and the standard library that it imports, also within functions, and
    the modules that import each."""


def carry_code(folder: Path, modules: Collection[str] = (), roots: Mapping[str, Path] = PROJECT) -> CarriedCode:
    """Writes `pyfunc.py`, and the package of all modules that it or `modules` import, also indirectly, into `folder`.

    `roots` maps the top-level packages that are copied to the folders that hold them. Raises UserError for a module
    that imports one of them by `import name`, which has no relative form.
    """
    script = _Source(_SCRIPT.read_text(encoding="utf-8"), "", roots)
    files, third_party = _needed_files(script, modules, roots)
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    package = folder / f"{PREFIX}_{digest.hexdigest()[:12]}"
    for name, content in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    carried = folder / _SCRIPT.name
    carried.write_text(script.with_prefix(f"{package.name}."), encoding="utf-8")
    return CarriedCode(
        carried, package, {name: by for name, by in third_party.items() if name not in sys.stdlib_module_names}
    )


def _needed_files(
    script: "_Source", modules: Collection[str], roots: Mapping[str, Path]
) -> tuple[dict[str, bytes], dict[str, set[str]]]:
    """Returns the files of the package by their paths in it, and who imports each top-level name of other packages."""
    files = {"__init__.py": _DOCSTRING}
    third_party: dict[str, set[str]] = {name: {_SCRIPT.stem} for name in script.third_party}
    pending, seen = [*script.modules, *modules], {""}
    while pending:
        module = pending.pop()
        if module in seen:
            continue
        seen.add(module)
        root = roots[module.split(".")[0]]
        path = root.joinpath(*module.split("."))
        path = path / "__init__.py" if is_dir(path) else path.with_suffix(".py")
        if not is_file(path):  # a name within a module, or a folder without code
            continue
        name, parent = path.relative_to(root), module.rpartition(".")[0]
        source = _Source(path.read_text(encoding="utf-8"), module if path.name == "__init__.py" else parent, roots)
        files[name.as_posix()] = source.with_prefix("." * len(name.parts)).encode()
        if data := DATA.get(name.as_posix()):
            files[data] = (root / data).read_bytes()
        for other in source.third_party:
            third_party.setdefault(other, set()).add(module)
        pending += [*source.modules, parent]
    return files, third_party


class _Source:
    """The source of a module of `package`, and what it imports; imports under `if TYPE_CHECKING:` need no module."""

    def __init__(self, text: str, package: str, roots: Mapping[str, Path]) -> None:
        self._text = text
        self._absolute: list[ast.ImportFrom] = []
        self.modules: list[str] = []
        """Modules of `roots`, and names in them that may be modules."""
        self.third_party: set[str] = set()
        """Top-level names of all other imports."""
        for node, is_run in _imports(text):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif node.level:
                names = [resolve_name("." * node.level + (node.module or ""), package)]
            else:
                names = [str(node.module)]
            own = [name for name in names if name.split(".")[0] in roots]
            if own and isinstance(node, ast.Import):
                raise UserError(f"`import {own[0]}` cannot be carried by a model; use `from ... import` in {package}")
            if own and isinstance(node, ast.ImportFrom) and not node.level:
                self._absolute.append(node)
            if own and is_run:
                self.modules += [own[0], *(f"{own[0]}.{alias.name}" for alias in node.names)]
            elif is_run:
                self.third_party |= {name.split(".")[0] for name in names}

    def with_prefix(self, prefix: str) -> str:
        """Returns the text with `prefix` before the packages of `roots` in absolute imports."""
        lines = self._text.splitlines(keepends=True)
        for node in self._absolute:
            line, start = lines[node.lineno - 1], node.col_offset + len("from ")
            assert line[node.col_offset :].startswith(f"from {node.module}"), line
            lines[node.lineno - 1] = f"{line[:start]}{prefix}{line[start:]}"
        return "".join(lines)


@cache
def _imports(text: str) -> Sequence[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Returns every import, also within functions, and whether it is not under `if TYPE_CHECKING:`.

    Cached, so that a process parses a module once for all versions that it registers.
    """
    found: list[tuple[ast.Import | ast.ImportFrom, bool]] = []
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(text), True)]
    while pending:
        node, is_run = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append((node, is_run))
        is_run = is_run and not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        pending += [(child, is_run) for child in ast.iter_child_nodes(node)]
    return found
