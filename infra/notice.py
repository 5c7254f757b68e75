"""A line that states what a command waits for, printed if the wait is long."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def notice(line: str, after_s: float) -> Iterator[None]:
    """Prints `line` to stderr if the body takes longer than `after_s`."""
    timer = threading.Timer(after_s, lambda: print(line, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
