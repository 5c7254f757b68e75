"""The gauge by which the driver of a training shows its progress (infra/metrics.py), also before the first step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from infra.metrics import TRAINING_STEP


@contextmanager
def step_gauge(run: str) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes the step of a run; the gauge, at first 0, is the highest one until the body ends.

    A training whose workers restart every few minutes repeats the same steps, which does not count as progress.
    """
    highest = 0

    def record(step: int) -> None:
        nonlocal highest
        highest = max(highest, step)
        TRAINING_STEP.set(highest, run=run)

    record(0)
    try:
        yield record
    finally:
        TRAINING_STEP.remove(run=run)
