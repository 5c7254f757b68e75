"""An iterator whose next items are made in a thread while the present one is used."""

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar

Item = TypeVar("Item")

AHEAD = 3
"""Items that wait to be used: some 20 MB each for a batch of 128 photos of 36 x 2048."""


def read_ahead(items: Iterator[Item], ahead: int = AHEAD) -> Iterator[Item]:
    """The same items in the same order. What `items` raises is raised where it would have been; its thread ends when
    this iterator is closed.
    """
    ready: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(ahead)
    closed = threading.Event()

    def put(item: Item | None, error: BaseException | None) -> None:
        while not closed.is_set():
            with suppress(queue.Full):
                ready.put((item, error), timeout=0.1)
                return

    def make() -> None:
        try:
            for item in items:
                put(item, None)
                if closed.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 it belongs to whoever takes the item
            put(None, error)
        else:
            put(None, StopIteration())

    thread = threading.Thread(target=make, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        closed.set()
        thread.join()
