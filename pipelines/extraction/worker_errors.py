"""Errors of Ray workers (a store, disk or detector that fails, a lost process) as one-line UserErrors of the driver.

Ray Data 2.60 appends advice about retries to the arguments of an exception that it passes on.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from infra.cluster_resources import Wait
from infra.errors import UserError
from infra.in_thread import in_thread
from infra.notice import notice
from infra.ray_jobs import one_line

ADVICE = "\nFailed to apply "
AGAIN = "what is complete is kept, re-run the same command to resume"

IDLE_S = 300.0
"""Seconds without a result of any worker after which a line states what is waited for."""

CHECK_S = 10.0
"""Seconds between looks at the cluster's nodes while no result arrives."""

P = ParamSpec("P")
T = TypeVar("T")


def keep_error_message(operator: Callable[P, T]) -> Callable[P, T]:
    """Decorates a function that Ray Data maps, so that an OSError has its message as its only argument.

    Otherwise Ray's advice becomes the third argument, which is the file name, and replaces it.
    """

    @wraps(operator)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return operator(*args, **kwargs)
        except OSError as error:
            raise OSError(str(error)) from error

    return guarded


@contextmanager
def as_user_errors() -> Iterator[None]:
    """Turns a worker's UserError and OSError, and the loss of workers that Ray does not replace, into a UserError here.

    Other exceptions of a worker's code keep their traceback.
    """
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except UserError as error:
        raise UserError(_message(error)) from error
    except OSError as error:
        raise UserError(f"{_message(error)}; {AGAIN}") from error
    except RayTaskError:
        raise
    except RayError as error:
        raise UserError(
            f"worker processes were lost again and again, or cannot start ({_reason(error)}); read their logs, use "
            f"nodes with more memory; {AGAIN}"
        ) from error


def iter_rows(dataset: Any, wait: Wait) -> Iterator[dict[str, Any]]:
    """Executes a Ray Data dataset and yields its rows. Raises UserError as `as_user_errors` does.

    While no row arrives: raises UserError if the nodes that are left cannot run what `wait` requests, and prints a line
    after IDLE_S. Ray Data waits silently and without end for resources that have left.
    """
    dataset.context.enable_progress_bars = False  # the job shows one bar of its own, in photos
    dataset.context.raise_original_map_exception = True  # so that an OSError of a worker is one here
    with as_user_errors():
        rows = iter(dataset.iter_rows())
        while True:
            with idle_notice():
                row = _next(rows, wait)
            if row is None:
                return
            yield row


def _next(rows: Iterator[dict[str, Any]], wait: Wait) -> dict[str, Any] | None:
    row = in_thread(lambda: next(rows, None))
    while True:
        try:
            return row.result(CHECK_S)
        except FutureTimeoutError:
            if not row.done():
                wait.require()


def idle_notice() -> AbstractContextManager[None]:
    """Prints a line if the body, a wait for results of workers, takes longer than IDLE_S. Ray waits silently."""
    return notice(
        f"waiting for workers, which have completed nothing for {IDLE_S:.0f} s; if a node has left, add one with its "
        "resources (`ray status` shows what is missing)",
        IDLE_S,
    )


def _reason(error: Exception) -> str:
    """Returns why a process was lost, or the exception with which it could not start."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines and "creation task" in lines[0] else one_line(error)


def _message(error: Exception) -> str:
    """Returns the message of a worker's exception without the traceback and advice that Ray adds."""
    cause = getattr(error, "cause", error)
    return str(cause.args[0] if len(cause.args) == 1 else cause).partition(ADVICE)[0]
