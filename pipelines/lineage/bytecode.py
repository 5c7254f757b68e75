"""Checks of the bytecode beside the code of a registered version: Python may run it instead of the source.

Python writes `__pycache__` beside every module that it imports, so a version that is loaded from the folder where it
is stored has some. Such a file is what its source compiles to, or was written by something else. Stored bytecode is
neither run nor unmarshalled, as `marshal.loads` is not safe for data from elsewhere; its layout is that of
Python/marshal.c, which is the same from Python 3.11 to 3.13.
"""

import py_compile
import re
import sys
from hashlib import sha256
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from infra.paths import is_file
from infra.storage.process_folder import temporary_folder

FOLDER = "__pycache__"
_NAME = re.compile(r"(?P<module>\w+)\.(?P<python>[\w-]+)(\.opt-(?P<optimize>[12]))?\.pyc")
_FLAGS, _CODE = slice(4, 8), slice(16, None)
"""The header: magic number, flags, and modification time and size of the source. The imports of Python set no flag;
others have Python run the file whatever its source is."""
_SIZES = {**dict.fromkeys("NTF.S", 0), "i": 4, "g": 8, "y": 16}
"""Bytes of the objects of a fixed size, by their type."""
_INTEGERS, _FILE_NAME, _OBJECTS_BEFORE_LINE, _OBJECTS_AFTER_LINE = 20, 5, 8, 2
"""The fields of a code object, of which one object is the path of the source, the same file under another name."""


def changed_bytecode(root: Path) -> tuple[list[str], list[str]]:
    """Returns the files in folders `__pycache__` that are not compiled from their source, and those that are unknown.

    Both are paths below `root`. Unknown are the files of other Python versions.
    """
    changed, unknown = [], []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if FOLDER not in name.parts or not is_file(path):
            continue
        match = _NAME.fullmatch(path.name)
        source = path.parent.parent / f"{match['module']}.py" if match else path
        content = path.read_bytes()
        if match is None or path.parent.name != FOLDER or not is_file(source) or any(content[_FLAGS]):
            changed.append(name.as_posix())
        elif match["python"] != sys.implementation.cache_tag:
            unknown.append(name.as_posix())
        elif not _is_compiled_from(content, source, int(match["optimize"] or 0)):
            changed.append(name.as_posix())
    return changed, unknown


def _is_compiled_from(content: bytes, source: Path, optimize: int) -> bool:
    if not content.startswith(MAGIC_NUMBER):
        return False
    try:
        with temporary_folder("shan-lineage-") as folder:
            cached = folder / "compiled.pyc"
            py_compile.compile(str(source), str(cached), doraise=True, optimize=optimize)
            compiled = cached.read_bytes()
        return _Reader(content[_CODE]).digest() == _Reader(compiled[_CODE]).digest()
    except (ValueError, IndexError, RecursionError, py_compile.PyCompileError):
        return False


class _Reader:
    """Digests of marshalled objects, equal for equal objects.

    Equal code is not always marshalled into equal bytes: which strings and constants are stored once and referred to
    afterwards depends on what else the process holds.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._references: list[bytes] = []

    def digest(self) -> bytes:
        """Returns the digest of the next object. Raises ValueError, IndexError or RecursionError for corrupt data."""
        tag = self._take(1)[0]
        kind = chr(tag & 0x7F)
        if kind == "r":
            return self._references[self._length()]
        index = len(self._references)
        if tag & 0x80:  # later objects may refer to it
            self._references.append(b"")
        found = sha256(self._content(kind)).digest()
        if tag & 0x80:
            self._references[index] = found
        return found

    def _content(self, kind: str) -> bytes:
        if kind in _SIZES:
            return kind.encode() + self._take(_SIZES[kind])
        if kind == "l":
            count = self._take(4)
            return b"l" + count + self._take(2 * abs(int.from_bytes(count, "little", signed=True)))
        if kind in "stuaAzZ":  # bytes, and strings in several forms
            return (b"s" if kind == "s" else b"u") + self._take(self._take(1)[0] if kind in "zZ" else self._length())
        if kind in "()":
            return b"(" + b"".join(self._objects(self._take(1)[0] if kind == ")" else self._length()))
        if kind == ">":  # a frozenset, in any order
            return b">" + b"".join(sorted(self._objects(self._length())))
        if kind == "c":
            integers, objects = self._take(_INTEGERS), self._objects(_OBJECTS_BEFORE_LINE)
            del objects[_FILE_NAME]
            return b"c" + integers + b"".join([*objects, self._take(4), *self._objects(_OBJECTS_AFTER_LINE)])
        raise ValueError(f"code contains no object of type {kind!r}")

    def _objects(self, count: int) -> list[bytes]:
        return [self.digest() for _ in range(count)]

    def _length(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _take(self, count: int) -> bytes:
        taken = self._data[self._position : self._position + count]
        if len(taken) < count:
            raise ValueError("the data ends within an object")
        self._position += count
        return taken
