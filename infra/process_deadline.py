"""A deadline for work that cannot be interrupted, such as a call of C code: the process ends when it is over."""

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2
"""The file descriptor: a worker or a test may have replaced `sys.stderr`."""


@contextmanager
def process_deadline(seconds: float) -> Iterator[None]:
    """Ends this process with exit code 1, and a traceback in its log, if the enclosed work takes longer.

    For workers whose work is retried or reported by somebody else. Deadlines cannot be nested.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
