"""Rows of a benchmark, and ratios that mean something on a machine that others use too."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch


@dataclass(frozen=True)
class Row:
    """One figure; `goal` is a floor or a ceiling, as `better` says. Without a goal it is there to explain others."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    better: Literal["higher", "lower"] = "higher"

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal


def seconds(*functions: Callable[[], object], rounds: int = 3) -> list[float]:
    """Least seconds of each function, after one call to warm up; they take turns, so that all meet the same weather."""
    for function in functions:
        function()
    least = [float("inf")] * len(functions)
    for _ in range(rounds):
        for place, function in enumerate(functions):
            start = time.perf_counter()
            function()
            least[place] = min(least[place], time.perf_counter() - start)
    return least


@contextmanager
def threads(count: int) -> Iterator[None]:
    """The body on so many threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def gib(field: str) -> float:
    """VmRSS (now) or VmHWM (most so far) of this process; getrusage would begin with the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 2**20  # type: ignore[index]


def tree_peak_gib(pid: int) -> float:
    """Most memory that a process and its descendants had together until it ended (PSS: shared pages count once)."""
    peak = 0
    while Path(f"/proc/{pid}/smaps_rollup").exists() and not _ended(pid):
        peak = max(peak, sum(_pss_kib(each) for each in _tree(pid)))
        time.sleep(0.25)
    return peak / 2**20


def _ended(pid: int) -> bool:
    """A zombie: its parent has yet to ask for its exit status."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] == "Z"


def _tree(pid: int) -> list[int]:
    parents = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parents[int(folder.name)] = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    tree = [pid]
    for each in tree:
        tree += [child for child, parent in parents.items() if parent == each]
    return tree


def _pss_kib(pid: int) -> int:
    with suppress(OSError):
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def forget(*paths: Path) -> None:
    """Drops files from the page cache: real sources are larger than memory and come from the disk."""
    os.sync()
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
