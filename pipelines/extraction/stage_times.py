"""How long the stages of an extraction work and wait, and which of them is the bottleneck.

Every row carries the times of the tasks that it went through. The mean queue before a task is the sum of the waits
divided by the duration (Little's law), so nothing has to be sampled. Clocks of nodes may differ by milliseconds.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

TASKS = {"fetch": ("fetch", "decode"), "detect": ("detect",), "commit": ("pack", "put")}
"""Stages of each task, in order. A stage's time is that of its work, without that of its task beside it."""
_FULL = 0.5
"""Mean number of waiting parts from which a queue counts as one that is not empty."""


class PartStopwatch:
    """The times of one task at one part."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._before = json.loads(row["times"])
        self._start = time.time()
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Adds the time of the body to that of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] += time.perf_counter() - start

    def times(self) -> str:
        """Returns the value of the row's column `times` behind the task."""
        return json.dumps([*self._before, [self._start, time.time(), self._seconds]])


def no_times() -> str:
    """Returns the column `times` of a row that no task has worked on; its wait begins now."""
    return json.dumps([[time.time(), time.time(), {}]])


@dataclass(frozen=True)
class Stage:
    """The times of one stage."""

    name: str
    photos_per_s: float
    """Throughput of one process while it works."""
    processes: float
    """Mean number of busy processes."""
    queue: float
    """Mean number of parts that wait for the stage's task."""


class StageTimes:
    """Sums over the parts of an extraction."""

    def __init__(self) -> None:
        self._photos = 0
        self._seconds: dict[str, float] = defaultdict(float)
        self._waits: dict[str, float] = defaultdict(float)
        self._start, self._end = float("inf"), 0.0

    def add(self, times: str, photos: int) -> None:
        """Adds a part that went through all tasks."""
        before, *tasks = json.loads(times)
        if len(tasks) != len(TASKS):
            return  # its regions were copied
        self._photos += photos
        for task, (start, end, seconds) in zip(TASKS, tasks, strict=True):
            self._start, self._end = min(self._start, start), max(self._end, end)
            self._waits[task] += max(start - before[1], 0)
            for stage, spent in seconds.items():
                self._seconds[stage] += spent
            before = (start, end)

    def stages(self) -> list[Stage]:
        """Returns all stages in order; none if no photo was detected."""
        duration = self._end - self._start
        if not self._photos or duration <= 0:
            return []
        return [
            Stage(
                stage,
                self._photos / max(self._seconds[stage], 1e-9),
                self._seconds[stage] / duration,
                self._waits[task] / duration,
            )
            for task, names in TASKS.items()
            for stage in names
        ]

    def report(self) -> dict[str, Any]:
        """Returns the content of `report.json`; empty if no photo was detected."""
        stages = self.stages()
        if not stages:
            return {}
        rounded = [{name: _rounded(value) for name, value in asdict(stage).items()} for stage in stages]
        seconds = _rounded(self._end - self._start)
        return {"photos": self._photos, "seconds": seconds, "bottleneck": bottleneck(stages), "stages": rounded}


def bottleneck(stages: list[Stage]) -> str:
    """Returns the slowest stage of the last task with a queue: upstream of it tasks wait for room, downstream for work.

    Without a queue anywhere it is `fetch`, which then waits for tasks to start.
    """
    queues = {stage.name: stage.queue for stage in stages}
    last = next((task for task, names in reversed(TASKS.items()) if queues[names[0]] >= _FULL), next(iter(TASKS)))
    return max((stage for stage in stages if stage.name in TASKS[last]), key=lambda stage: stage.processes).name


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
