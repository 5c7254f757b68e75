"""How long the phases of an extraction work and wait, and which of them is the bottleneck.

Every row carries the times of the operators that it went through. The mean queue before an operator is the sum of the
waits divided by the duration (Little's law), so nothing has to be sampled. Clocks of nodes may differ by milliseconds.
"""

import json
import time
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from infra.metrics import PHASE_SECONDS, WAIT_SECONDS

OPERATORS = {"fetch": ("fetch", "decode"), "detect": ("detect",), "commit": ("pack", "put")}
"""Phases of each operator, in order. The time of a phase is that of its work alone."""


class PartStopwatch:
    """The times of one operator at one part."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._before = json.loads(row["times"])
        self._start = time.time()
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Adds the time of the body to that of a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] += time.perf_counter() - start

    def times(self) -> str:
        """Returns the value of the row's column `times` after the operator."""
        return json.dumps([*self._before, [self._start, time.time(), self._seconds]])


def no_times() -> str:
    """Returns the column `times` of a row that no operator has worked on; its wait begins now."""
    return json.dumps([[time.time(), time.time(), {}]])


@dataclass(frozen=True)
class Phase:
    """The times of one phase."""

    name: str
    photos_per_s: float
    """Throughput of one process while it works."""
    processes: float
    """Mean number of busy processes."""
    queue: float
    """Mean number of parts that wait for the phase's operator."""
    most_processes: int
    """Most processes that worked for the phase's operator at a time: what the cluster had room for."""


class PhaseTimes:
    """Sums over the parts of an extraction."""

    def __init__(self) -> None:
        self._photos = 0
        self._seconds: dict[str, float] = defaultdict(float)
        self._waits: dict[str, float] = defaultdict(float)
        self._spans = {operator: array("d") for operator in OPERATORS}  # 48 bytes per part
        self._start, self._end = float("inf"), 0.0

    def add(self, times: str, photos: int) -> None:
        """Adds a part of which so many photos were detected, here and to the metrics of the process."""
        before, *operators = json.loads(times)
        if len(operators) != len(OPERATORS) or not photos:
            return  # its regions were copied
        self._photos += photos
        for operator, (start, end, seconds) in zip(OPERATORS, operators, strict=True):
            self._start, self._end = min(self._start, start), max(self._end, end)
            self._spans[operator].extend((start, end))
            waited = max(start - before[1], 0)
            self._waits[operator] += waited
            WAIT_SECONDS.add(waited, operator=operator)
            for phase, spent in seconds.items():
                self._seconds[phase] += spent
                PHASE_SECONDS.add(spent, phase=phase)
            before = (start, end)

    def phases(self) -> list[Phase]:
        """Returns all phases in order; none if no photo was detected."""
        duration = self._end - self._start
        if not self._photos or duration <= 0:
            return []
        return [
            Phase(
                phase,
                self._photos / max(self._seconds[phase], 1e-9),
                self._seconds[phase] / duration,
                self._waits[operator] / duration,
                _most_at_a_time(self._spans[operator]),
            )
            for operator, names in OPERATORS.items()
            for phase in names
        ]

    def report(self) -> dict[str, Any]:
        """Returns the content of `report.json`; empty if no photo was detected."""
        phases = self.phases()
        if not phases:
            return {}
        rounded = [{name: _rounded(value) for name, value in asdict(phase).items()} for phase in phases]
        seconds = _rounded(self._end - self._start)
        return {"photos": self._photos, "seconds": seconds, "bottleneck": bottleneck(phases), "stages": rounded}


def bottleneck(phases: list[Phase]) -> str:
    """Returns the slowest phase of the operator whose processes are busy for most of the time.

    Of operators that are equally busy, to a tenth, it is the one with the longest queue.
    """
    by_name = {phase.name: phase for phase in phases}
    operators = [[by_name[name] for name in names] for names in OPERATORS.values()]
    busiest = max(operators, key=lambda each: (round(_utilisation(each), 1), each[0].queue))
    return max(busiest, key=lambda phase: phase.processes).name


def _utilisation(phases: list[Phase]) -> float:
    """Returns the fraction of the time for which the processes of an operator, given by its phases, are busy."""
    return sum(phase.processes for phase in phases) / max(phases[0].most_processes, 1)


def _most_at_a_time(spans: Sequence[float]) -> int:
    """Returns how many spans, given as start and end by turns, overlap at most. One may start where another ends."""
    starts, ends = np.sort(np.array(spans).reshape(-1, 2), axis=0).T
    return int((np.arange(1, len(starts) + 1) - np.searchsorted(ends, starts, side="right")).max())


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
