"""A cache of a function's results for threads: calls at the same time with the same arguments run the function once."""

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from threading import Lock
from typing import Generic, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., object])
Result = TypeVar("Result")


def single_flight_cache(maxsize: int) -> Callable[[Function], Function]:
    """Returns a decorator that keeps the results of the last `maxsize` arguments.

    An old result is released before the new one is computed, because both may be large; `cachetools.cached` with a
    condition and functools.lru_cache hold it until then, and the latter runs the function in every thread that misses
    while the first one runs. Errors are not kept: the next call runs the function again.
    """

    def decorate(function: Function) -> Function:
        calls, lock = lru_cache(maxsize)(lambda *_: _Call[object]()), Lock()

        @wraps(function)
        def cached(*arguments: Hashable) -> object:
            with lock:
                call = calls(*arguments)
            return call.result(lambda: function(*arguments))

        return cast("Function", cached)

    return decorate


class _Call(Generic[Result]):
    """The result of one call, which its first caller computes while the others wait."""

    def __init__(self) -> None:
        self._lock, self._results = Lock(), list[Result]()

    def result(self, compute: Callable[[], Result]) -> Result:
        with self._lock:
            if not self._results:
                self._results.append(compute())
            return self._results[0]
