"""Progress bars: one that workers anywhere on the cluster update, and one whose total is known later."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


@contextmanager
def counted_bar(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function of the numbers done and in total that shows a bar.

    The bar appears with the first call, so that input that is refused before any work leaves one line only.
    """
    bars: list[tqdm[Any]] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(desc=description, unit=unit))
        bars[0].total = total
        bars[0].update(done - bars[0].n)

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()


class ProgressActor:
    """A Ray actor between driver and workers: steps done, a note, warnings, and the driver's request to stop."""

    def __init__(self, waiting_for: str) -> None:
        self._steps, self._note = 0, ""
        self._waiting_for = waiting_for
        self._warnings: list[str] = []
        self._started = self._stop = False

    def wait(self, waiting_for: str) -> None:
        """Shows what the work waits for instead of the note, until a worker updates the bar."""
        self._waiting_for = waiting_for

    def update(self, steps: int, note: str = "") -> None:
        """Sets the number of steps done in total, and the note unless it is empty."""
        self._steps, self._note, self._waiting_for, self._started = steps, note or self._note, "", True

    def warn(self, text: str) -> None:
        """Adds a warning that the driver prints; the work continues."""
        self._warnings.append(text)

    def request_stop(self) -> bool:
        """Asks the workers to save their work and stop. Returns whether they have started."""
        self._stop = True
        return self._started

    def stop_requested(self) -> bool:
        """Returns whether `request_stop` was called."""
        return self._stop

    def state(self) -> tuple[int, str, list[str]]:
        """Returns the steps done, the note, and the warnings added since the last call."""
        warnings, self._warnings = self._warnings, []
        return self._steps, f"waiting for {self._waiting_for}" if self._waiting_for else self._note, warnings


@contextmanager
def worker_bar(description: str, total: int, unit: str, waiting_for: str) -> Iterator[Any]:
    """Shows a bar while the body runs. Yields the `ProgressActor`; workers call `update.remote(steps, note)` on it.

    Until they do, the bar shows that the work waits for `waiting_for`.
    """
    import ray

    actor = ray.remote(ProgressActor).options(num_cpus=0).remote(waiting_for)
    finished = threading.Event()
    with tqdm(desc=description, total=total, unit=unit) as bar:
        thread = threading.Thread(target=_refresh, args=(actor, bar, finished), daemon=True)
        thread.start()
        try:
            yield actor
        finally:
            finished.set()
            thread.join()
            ray.kill(actor)


def _refresh(actor: Any, bar: "tqdm[Any]", finished: threading.Event) -> None:
    import ray

    last, shown = False, ""
    while not last:
        last = finished.wait(timeout=0.5)
        try:
            steps, note, warnings = ray.get(actor.state.remote(), timeout=5)
        except ray.exceptions.RayError:
            continue  # a bar that cannot be refreshed must not end the work
        for warning in warnings:
            bar.write(f"warning: {warning}", file=sys.stderr)
        if steps != bar.n or note != shown:
            shown = note
            bar.set_postfix_str(note, refresh=False)
            bar.update(steps - bar.n)
