"""Rows of a benchmark, and ratios that mean something on a machine that others use too."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
