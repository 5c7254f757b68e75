"""A score matrix in a file that a killed run can go on with: `NAME.npy`, memory-mapped, and two small files beside it.

`NAME.json` says whose scores these are and how the matrix is cut; `NAME.done` holds a byte for every block, set once
the block's scores have reached the disk, and is locked by the process that writes. `NAME.npy` appears last, with its
disk space allocated.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

Edges = tuple[tuple[int, ...], tuple[int, ...]]


class ScoreFile:
    """Scores in `path` (ends in .npy), float16 or float32. `identity` names all that they depend on."""

    def __init__(self, path: Path, identity: str, dtype: str = "float32") -> None:
        """Raises ValueError for another ending or type."""
        if path.suffix != ".npy":
            raise ValueError(f"{path}: a score matrix is a NumPy file; let its name end in .npy")
        if dtype not in ("float16", "float32"):
            raise ValueError(f"scores of type {dtype} are not kept; choose float16 or float32")
        self.path, self._identity, self._dtype = path, identity, dtype
        self._record, self._flags = path.with_suffix(".json"), path.with_suffix(".done")
        self._handle: IO[bytes] | None = None
        self._columns = 0
        self.matrix: NDArray[np.floating] = np.empty((0, 0))

    def open(self, shape: tuple[int, int], edges: Edges) -> Edges:
        """Makes the files, or opens those of an earlier run and returns the edges by which it was cut.

        Raises ValueError if they hold the scores of something else, are damaged, cannot be written, or if another
        process writes them.
        """
        try:
            self._lock()
            if not self.path.exists():
                self._begin(shape, edges)
            return self._open(shape)
        except OSError as error:
            self.close()
            message = f"{self.path}: cannot be written ({error.strerror}); name another file or make room"
            raise ValueError(message) from error
        except ValueError:
            self.close()
            raise

    def done(self) -> set[tuple[int, int]]:
        """Blocks that need no scoring any more."""
        flags = np.frombuffer(self._flags.read_bytes(), dtype=np.uint8)
        return {(int(place) // self._columns, int(place) % self._columns) for place in np.flatnonzero(flags)}

    def mark(self, i: int, j: int) -> None:
        """Notes that block (i, j) is in the matrix, after its scores have reached the disk."""
        assert isinstance(self.matrix, np.memmap)
        assert self._handle is not None
        self.matrix.flush()
        os.pwrite(self._handle.fileno(), b"\1", i * self._columns + j)

    def close(self) -> None:
        """Lets other processes write; the matrix stays readable."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def _lock(self) -> None:
        if self.path.exists() and not self._record.exists():
            raise ValueError(f"{self.path} is there and is no score matrix of ours; name another file")
        # "w" would empty it, "a" would write at its end.
        self._handle = os.fdopen(os.open(self._flags, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{self.path} is being written by another process; wait, or name another file") from None

    def _begin(self, shape: tuple[int, int], edges: Edges) -> None:
        assert self._handle is not None
        if self._record.exists():
            self._read_record()  # not to be overwritten if it is somebody else's
        part = self.path.with_suffix(".part")
        try:
            np.lib.format.open_memmap(part, mode="w+", dtype=self._dtype, shape=shape).flush()
            with part.open("r+b") as file:  # or a full disk would end the process at some later write
                os.posix_fallocate(file.fileno(), 0, part.stat().st_size)
            self._handle.truncate(0)
            os.pwrite(self._handle.fileno(), bytes((len(edges[0]) - 1) * (len(edges[1]) - 1)), 0)
            record = self._record.with_suffix(".json.part")
            record.write_text(json.dumps({"identity": self._key(shape), "edges": edges}), encoding="utf-8")
            record.replace(self._record)
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)

    def _open(self, shape: tuple[int, int]) -> Edges:
        identity, edges = self._read_record()
        if identity != self._key(shape):
            raise ValueError(
                f"{self.path} holds scores of another model, other features, captions or precision; "
                f"delete it with {self._record.name} or name another file"
            )
        self._columns = len(edges[1]) - 1
        if not self._is_whole(shape) or self._flags.stat().st_size != (len(edges[0]) - 1) * self._columns:
            raise ValueError(
                f"{self.path} and the files beside it do not belong together; "
                f"delete it with {self._record.name} and {self._flags.name} to begin again"
            )
        self.matrix = np.lib.format.open_memmap(self.path, mode="r+")
        return edges

    def _read_record(self) -> tuple[str, Edges]:
        try:
            found = json.loads(self._record.read_text(encoding="utf-8"))
            return str(found["identity"]), (tuple(found["edges"][0]), tuple(found["edges"][1]))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{self._record} is no record of scores; delete it or name another file") from error

    def _is_whole(self, shape: tuple[int, int]) -> bool:
        """Whether the .npy is of this shape and type and as long as that makes it (a map would lengthen it)."""
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
