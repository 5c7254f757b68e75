"""A progress bar in the driver that workers anywhere on the cluster move."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


class Counter:
    """Runs as a Ray actor: what workers have done so far, and the last thing they said."""

    def __init__(self) -> None:
        self._count, self._note = 0, ""

    def move(self, steps: int, note: str = "") -> None:
        """Adds steps; a note that is not empty replaces the last."""
        self._count += steps
        self._note = note or self._note

    def state(self) -> tuple[int, str]:
        """Steps so far and the last note."""
        return self._count, self._note


@contextmanager
def worker_bar(description: str, total: int, unit: str) -> Iterator[Any]:
    """Shows a bar while the body runs; yields the actor on which workers call `move.remote(steps, note)`."""
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
            count, note = ray.get(counter.state.remote(), timeout=5)
        except ray.exceptions.RayError:
            continue  # a bar that stands still must not end the work that it shows
        if count != bar.n or note != shown:
            shown = note
            bar.set_postfix_str(note, refresh=False)
            bar.update(count - bar.n)
