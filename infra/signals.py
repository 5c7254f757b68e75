"""Ctrl-C and SIGTERM as exceptions, so that a command can save its work, end its MLflow run and state how to continue.

Both are a KeyboardInterrupt. Its message, if any, states what was kept and how to continue; `jobs.cli` prints it.
"""

import atexit
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_TERMINATED = threading.Event()
"""Set by SIGTERM. Its exception could not tell it from Ctrl-C: Ray replaces one that is raised while it waits."""


def raise_on_sigterm() -> None:
    """Makes SIGTERM an interrupt of the main thread. Does nothing in another, where Python allows no handlers."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Keeps SIGTERM an interrupt during and after the body, `ray.init`, which sets a handler that exits silently."""
    try:
        yield
    except SystemExit as end:
        if end.code != signal.SIGTERM:
            raise
        _TERMINATED.set()
        raise KeyboardInterrupt from None
    raise_on_sigterm()


@contextmanager
def when_interrupted(message: str) -> Iterator[None]:
    """Adds `message`, what is kept and how to continue, to an interrupt of the body that does not contain it yet."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        said = str(interrupt)
        raise KeyboardInterrupt(said if message in said else "; ".join(filter(None, [said, message]))) from None


def interrupt_exit_code() -> int:
    """Returns the exit code of a process that an interrupt ends: 128 + the signal's number, as shells report it."""
    return 128 + (signal.SIGTERM if _TERMINATED.is_set() else signal.SIGINT)


def ignore_signals_at_exit() -> None:
    """Lets the exit handlers that are registered so far finish: Ray's, if interrupted, leaves processes of its session.

    Python still joins its threads before that, which an interrupt ends.
    """
    atexit.register(_ignore_signals)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
    _TERMINATED.set()
    raise KeyboardInterrupt
