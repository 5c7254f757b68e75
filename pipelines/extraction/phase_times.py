"""How long the phases of an extraction work and wait, and which of them is the bottleneck.

Every row carries the times of the operators that it went through. The mean queue before an operator is the sum of the
waits divided by the duration (Little's law), so nothing has to be sampled. Clocks of nodes may differ by milliseconds.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from infra.metrics import PHASE_SECONDS, WAIT_SECONDS

OPERATORS = {"fetch": ("fetch", "decode"), "detect": ("detect",), "commit": ("pack", "put")}
"""Phases of each operator, in order. The time of a phase is that of its work alone."""
_FULL = 0.5
"""Mean number of waiting parts from which a queue counts as one that is not empty."""


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


class PhaseTimes:
    """Sums over the parts of an extraction."""

    def __init__(self) -> None:
        self._photos = 0
        self._seconds: dict[str, float] = defaultdict(float)
        self._waits: dict[str, float] = defaultdict(float)
        self._start, self._end = float("inf"), 0.0

    def add(self, times: str, photos: int) -> None:
        """Adds a part that went through all operators, here and to the metrics of the process."""
        before, *operators = json.loads(times)
        if len(operators) != len(OPERATORS):
            return  # its regions were copied
        self._photos += photos
        for operator, (start, end, seconds) in zip(OPERATORS, operators, strict=True):
            self._start, self._end = min(self._start, start), max(self._end, end)
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
    """Returns the slowest phase of the last operator with a queue; without a queue anywhere the busiest phase.

    Operators upstream of it wait for room, those downstream for work.
    """
    queues = {phase.name: phase.queue for phase in phases}
    every = [phase.name for phase in phases]
    candidates = next((names for names in reversed(OPERATORS.values()) if queues[names[0]] >= _FULL), every)
    return max((phase for phase in phases if phase.name in candidates), key=lambda phase: phase.processes).name


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
