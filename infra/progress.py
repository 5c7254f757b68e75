"""Progress bars: one that workers anywhere on the cluster update, and one whose total is known later.

With `infra.log` in JSON, a bar logs an event every EVENT_S instead.
"""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from infra.log import event, is_json, replay

EVENT_S = 10.0
"""Seconds between two events of a bar."""
Logged = tuple[str, int, str, dict[str, Any]]
"""Logger, level, message and fields of what a process has logged."""


class ProgressBar(tqdm):
    """The bar of tqdm on stderr, or events."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._logs = is_json()
        if self._logs:
            options |= {"file": io.StringIO(), "mininterval": EVENT_S, "maxinterval": EVENT_S, "miniters": 0}
        super().__init__(*arguments, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Shows the present state. tqdm calls this at the start, about every `mininterval` seconds and at the end."""
        if not self._logs:
            super().display(msg, pos)
            return
        done = f"{self.n:g}" if self.total is None else f"{self.n:g} of {self.total:g}"
        note = f", {self.postfix}" if self.postfix else ""
        event("progress", f"{self.desc}: {done} {self.unit}s{note}", done=self.n, total=self.total, unit=self.unit)


@contextmanager
def counted_bar(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function of the numbers done and in total that shows a bar.

    The bar appears with the first call, so that input that is refused before any work leaves one line only.
    """
    bars: list[ProgressBar] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(ProgressBar(desc=description, unit=unit))
        bars[0].total = total
        bars[0].update(done - bars[0].n)

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()


class ProgressActor:
    """A Ray actor between driver and workers: steps done, a note, what they log, and the driver's request to stop."""

    def __init__(self, waiting_for: str) -> None:
        self._steps, self._note = 0, ""
        self._waiting_for = waiting_for
        self._logged: list[Logged] = []
        self._started = self._stop = False

    def wait(self, waiting_for: str) -> None:
        """Shows what the work waits for instead of the note, until a worker updates the bar."""
        self._waiting_for = waiting_for

    def update(self, steps: int, note: str = "") -> None:
        """Sets the number of steps done in total, and the note unless it is empty."""
        self._steps, self._note, self._waiting_for, self._started = steps, note or self._note, "", True

    def log(self, logger: str, level: int, message: str, fields: dict[str, Any]) -> None:
        """Adds a message or event that the driver logs (`infra.log.replay`)."""
        self._logged.append((logger, level, message, fields))

    def request_stop(self) -> bool:
        """Asks the workers to save their work and stop. Returns whether they have started."""
        self._stop = True
        return self._started

    def stop_requested(self) -> bool:
        """Returns whether `request_stop` was called."""
        return self._stop

    def state(self) -> tuple[int, str, list[Logged]]:
        """Returns the steps done, the note, and what was logged since the last call."""
        logged, self._logged = self._logged, []
        return self._steps, f"waiting for {self._waiting_for}" if self._waiting_for else self._note, logged


@contextmanager
def worker_bar(
    description: str, total: int, unit: str, waiting_for: str, on_steps: Callable[[int], object] = lambda _: None
) -> Iterator[Any]:
    """Shows a bar while the body runs. Yields the `ProgressActor`; workers call `update.remote(steps, note)` on it.

    Until they do, the bar shows that the work waits for `waiting_for`. `on_steps` is called in this process with the
    number of steps done, again and again.
    """
    import ray

    actor = ray.remote(ProgressActor).options(num_cpus=0).remote(waiting_for)
    finished = threading.Event()
    with ProgressBar(desc=description, total=total, unit=unit) as bar:
        thread = threading.Thread(target=_refresh, args=(actor, bar, finished, on_steps), daemon=True)
        thread.start()
        try:
            yield actor
        finally:
            finished.set()
            thread.join()
            ray.kill(actor)


def _refresh(actor: Any, bar: "ProgressBar", finished: threading.Event, on_steps: Callable[[int], object]) -> None:
    import ray

    last, shown = False, ""
    while not last:
        last = finished.wait(timeout=0.5)
        try:
            steps, note, logged = ray.get(actor.state.remote(), timeout=5)
        except ray.exceptions.RayError:
            continue  # a bar that cannot be refreshed must not end the work
        on_steps(steps)
        for each in logged:
            replay(*each)
        if steps != bar.n or note != shown:
            shown = note
            bar.set_postfix_str(note, refresh=False)
            bar.update(steps - bar.n)
