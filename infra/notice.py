"""A line that states what a command waits for, printed if the wait is long."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from infra.log import log


@contextmanager
def notice(line: str, after_s: float) -> Iterator[None]:
    """Logs `line` if the body takes longer than `after_s`."""
    timer = threading.Timer(after_s, lambda: log.info(line, extra={"event": "waiting"}))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
