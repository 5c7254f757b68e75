"""A score matrix in a file that a killed run can go on with: `NAME.npy`, memory-mapped, and two small files beside it.

`NAME.json` says whose scores these are and how the matrix is cut; `NAME.done` holds a byte for every block, set once
the block's scores have reached the disk.
"""

import json
from pathlib import Path

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
        self.matrix: NDArray[np.floating] = np.empty((0, 0))

    def open(self, shape: tuple[int, int], edges: Edges) -> Edges:
        """Makes the files, or opens those of an earlier run and returns the edges by which it was cut.

        Raises ValueError if they hold the scores of something else.
        """
        if not self._record.exists():
            np.lib.format.open_memmap(self.path, mode="w+", dtype=self._dtype, shape=shape).flush()
            self._flags.write_bytes(bytes((len(edges[0]) - 1) * (len(edges[1]) - 1)))
            # The record comes last: without it there is nothing to go on with.
            self._record.write_text(json.dumps({"identity": self._key(shape), "edges": edges}), encoding="utf-8")
        found = json.loads(self._record.read_text(encoding="utf-8"))
        if found["identity"] != self._key(shape):
            raise ValueError(
                f"{self.path} holds scores of another model, other features, captions or precision; "
                f"delete it with {self._record.name} or name another file"
            )
        self.matrix = np.lib.format.open_memmap(self.path, mode="r+")
        self._columns = len(found["edges"][1]) - 1
        return tuple(found["edges"][0]), tuple(found["edges"][1])

    def done(self) -> set[tuple[int, int]]:
        """Blocks that need no scoring any more."""
        flags = np.frombuffer(self._flags.read_bytes(), dtype=np.uint8)
        return {(int(place) // self._columns, int(place) % self._columns) for place in np.flatnonzero(flags)}

    def mark(self, i: int, j: int) -> None:
        """Notes that block (i, j) is in the matrix, after its scores have reached the disk."""
        assert isinstance(self.matrix, np.memmap)
        self.matrix.flush()
        with self._flags.open("r+b") as file:
            file.seek(i * self._columns + j)
            file.write(b"\1")

    @property
    def _record(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def _flags(self) -> Path:
        return self.path.with_suffix(".done")

    def _key(self, shape: tuple[int, int]) -> str:
        return f"{self._identity} {self._dtype} {shape[0]} x {shape[1]}"
