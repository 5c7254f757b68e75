"""A progress bar in the driver that workers anywhere on the cluster move."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


class Counter:
    """Runs as a Ray actor: what workers have done so far, and the last thing they said."""

    def __init__(self) -> None:
        self._count, self._note = 0, ""
        self._warnings: list[str] = []

    def at(self, count: int, note: str = "") -> None:
        """Says how many steps are done in all; a note that is not empty replaces the last."""
        self._count, self._note = count, note or self._note

    def warn(self, text: str) -> None:
        """Something that the user should know, though work goes on."""
        self._warnings.append(text)

    def state(self) -> tuple[int, str, list[str]]:
        """Steps so far, the last note, and the warnings that were not asked for before."""
        warnings, self._warnings = self._warnings, []
        return self._count, self._note, warnings


@contextmanager
def worker_bar(description: str, total: int, unit: str) -> Iterator[Any]:
    """Shows a bar while the body runs; yields the `Counter` actor, on which workers call `at.remote(steps, note)`."""
    import ray

    counter = ray.remote(Counter).options(num_cpus=0).remote()
    finished = threading.Event()
    with tqdm(desc=description, total=total, unit=unit) as bar:
        thread = threading.Thread(target=_follow, args=(counter, bar, finished), daemon=True)
        thread.start()
        try:
            yield counter
        finally:
            finished.set()
            thread.join()
            ray.kill(counter)


def _follow(counter: Any, bar: "tqdm[Any]", finished: threading.Event) -> None:
    import ray

    last, shown = False, ""
    while not last:
        last = finished.wait(timeout=0.5)
        try:
            count, note, warnings = ray.get(counter.state.remote(), timeout=5)
        except ray.exceptions.RayError:
            continue  # a bar that stands still must not end the work that it shows
        for warning in warnings:
            bar.write(f"warning: {warning}", file=sys.stderr)
        if count != bar.n or note != shown:
            shown = note
            bar.set_postfix_str(note, refresh=False)
            bar.update(count - bar.n)
