"""The score cache: a score matrix in a file, which an interrupted evaluation resumes.

Three files share a name. `NAME.npy` is the matrix, memory-mapped; it appears last, with its disk space allocated.
`NAME.json` holds the identity of the scores and the edges of the blocks. `NAME.done` holds one byte per block, set
after the block's scores have reached the disk; the writing process locks it.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

Edges = tuple[tuple[int, ...], tuple[int, ...]]
"""Edges of the row blocks and of the column blocks."""


class ScoringError(ValueError):
    """Scores cannot be computed as requested: the cache file cannot be used, or the memory is too small."""


class ScoreCache:
    """A score matrix in `path` (a name that ends in .npy), of type float16 or float32.

    `identity` names everything that the scores depend on; a file with another identity is not used.
    """

    def __init__(self, path: Path, identity: str, dtype: str = "float32") -> None:
        """Raises ScoringError for another suffix or type."""
        if path.suffix != ".npy":
            raise ScoringError(f"{path}: the name of a score cache must end in .npy")
        if dtype not in ("float16", "float32"):
            raise ScoringError(f"the type of a score cache is {dtype}; choose float16 or float32")
        self.path, self._identity, self._dtype = path, identity, dtype
        self._header, self._flags = path.with_suffix(".json"), path.with_suffix(".done")
        self._handle: IO[bytes] | None = None
        self._columns = 0
        self.matrix: NDArray[np.floating] = np.empty((0, 0))

    def open(self, shape: tuple[int, int], edges: Edges) -> Edges:
        """Creates the files, or opens existing ones; returns the edges of the blocks that the files have.

        Raises ScoringError if the files hold other scores, are corrupt, cannot be written, or are being written by
        another process.
        """
        try:
            self._lock()
            if not self.path.exists():
                self._create(shape, edges)
            return self._open_existing(shape)
        except OSError as error:
            self.close()
            message = f"{self.path}: cannot be written ({error.strerror}); choose another file or free disk space"
            raise ScoringError(message) from error
        except ScoringError:
            self.close()
            raise

    def done(self) -> set[tuple[int, int]]:
        """Returns the finished blocks."""
        flags = np.frombuffer(self._flags.read_bytes(), dtype=np.uint8)
        return {(int(index) // self._columns, int(index) % self._columns) for index in np.flatnonzero(flags)}

    def mark(self, i: int, j: int) -> None:
        """Marks block (i, j) as finished, after flushing its scores to disk."""
        assert isinstance(self.matrix, np.memmap)
        assert self._handle is not None
        self.matrix.flush()
        os.pwrite(self._handle.fileno(), b"\1", i * self._columns + j)

    def close(self) -> None:
        """Releases the lock; the matrix stays readable."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def _lock(self) -> None:
        if self.path.exists() and not self._header.exists():
            raise ScoringError(f"{self.path} exists and is not a score cache; choose another file")
        if self._flags.exists() and not self._header.exists() and self._flags.read_bytes().strip(b"\0"):
            raise ScoringError(f"{self._flags} exists and is not that of a score cache; choose another file")
        # The mode "w" would truncate the file, and "a" would only append.
        self._handle = os.fdopen(os.open(self._flags, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{self.path} is being written by another process; wait for it, or choose another file"
            raise ScoringError(message) from None

    def _create(self, shape: tuple[int, int], edges: Edges) -> None:
        assert self._handle is not None
        if self._header.exists():
            self._read_header()  # raises if the file belongs to something else and must not be overwritten
        part = self.path.with_name(f"{self.path.name}.part")
        try:
            np.lib.format.open_memmap(part, mode="w+", dtype=self._dtype, shape=shape).flush()
            if hasattr(os, "posix_fallocate"):  # not on macOS
                # Without allocation, a full disk would kill the process at a later write.
                with part.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, part.stat().st_size)
            self._handle.truncate(0)
            os.pwrite(self._handle.fileno(), bytes((len(edges[0]) - 1) * (len(edges[1]) - 1)), 0)
            header = self._header.with_suffix(".json.part")
            header.write_text(json.dumps({"identity": self._key(shape), "edges": edges}), encoding="utf-8")
            header.replace(self._header)
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)

    def _open_existing(self, shape: tuple[int, int]) -> Edges:
        identity, edges = self._read_header()
        if identity != self._key(shape):
            raise ScoringError(
                f"{self.path} holds scores of another model, feature set, captions or precision; "
                f"delete it with {self._header.name}, or choose another file"
            )
        self._columns = len(edges[1]) - 1
        if not self._is_intact(shape) or self._flags.stat().st_size != (len(edges[0]) - 1) * self._columns:
            raise ScoringError(
                f"{self.path} does not match the files beside it; "
                f"delete it with {self._header.name} and {self._flags.name} to start again"
            )
        self.matrix = np.lib.format.open_memmap(self.path, mode="r+")
        return edges

    def _read_header(self) -> tuple[str, Edges]:
        try:
            found = json.loads(self._header.read_text(encoding="utf-8"))
            return str(found["identity"]), (tuple(found["edges"][0]), tuple(found["edges"][1]))
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            message = f"{self._header} is not the header of a score cache; delete it or choose another file"
            raise ScoringError(message) from error

    def _is_intact(self, shape: tuple[int, int]) -> bool:
        """Returns whether the .npy has the shape, type and size due (a memory map would extend a shorter file)."""
        try:
            with self.path.open("rb") as file:
                version = np.lib.format.read_magic(file)
                header = np.lib.format.read_array_header_1_0(file) if version == (1, 0) else None
                bytes_due = file.tell() + shape[0] * shape[1] * np.dtype(self._dtype).itemsize
        except ValueError:
            return False
        return header == (shape, False, np.dtype(self._dtype)) and self.path.stat().st_size == bytes_due

    def _key(self, shape: tuple[int, int]) -> str:
        return f"{self._identity} {self._dtype} {shape[0]} x {shape[1]}"
