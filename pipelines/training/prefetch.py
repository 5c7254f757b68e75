"""Prefetches the items of an iterator in a thread."""

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar

Item = TypeVar("Item")

PREFETCHED = 3
"""Items in the queue, each about 20 MB for a batch of 128 photos of 36 x 2048 features."""


def prefetch(items: Iterator[Item], count: int = PREFETCHED) -> Iterator[Item]:
    """Yields the same items in the same order, and prepares up to `count` of them in advance.

    An exception of `items` is raised after the items before it. The thread ends when this iterator is closed.
    """
    ready: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(count)
    closed = threading.Event()

    def put(item: Item | None, error: BaseException | None) -> None:
        while not closed.is_set():
            with suppress(queue.Full):
                ready.put((item, error), timeout=0.1)
                return

    def produce() -> None:
        try:
            for item in items:
                put(item, None)
                if closed.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 raised by the consumer instead
            put(None, error)
        else:
            put(None, StopIteration())

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
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
