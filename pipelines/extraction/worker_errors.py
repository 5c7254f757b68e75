"""What a worker says of a store, a disk or a detector that fails, brought whole to the driver and told in one line.

Ray Data 2.60 appends advice about retries to the arguments of an exception that it passes on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from infra.errors import UserError

ADVICE = "\nFailed to apply "

P = ParamSpec("P")
T = TypeVar("T")


def whole_errors(stage: Callable[P, T]) -> Callable[P, T]:
    """Of a function that Ray Data maps: an OSError has its message as its only argument. Else the advice, which becomes
    its third argument, stands where the name of the file was."""

    @wraps(stage)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return stage(*args, **kwargs)
        except OSError as error:
            raise OSError(str(error)) from error

    return guarded


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """What a worker's store, disk or detector says becomes a UserError; bugs keep their traceback."""
    try:
        yield
    except UserError as error:
        raise UserError(_said(error)) from error
    except OSError as error:
        raise UserError(f"{_said(error)}; what is written stays, the same command goes on") from error


def _said(error: Exception) -> str:
    """The message of an exception that a worker raised, without the traceback and advice that Ray puts around it."""
    cause = getattr(error, "cause", error)
    return str(cause.args[0] if len(cause.args) == 1 else cause).partition(ADVICE)[0]
