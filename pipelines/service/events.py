"""Events of the service's processes, in the logs of Ray Serve, which adds deployment, replica and id of the request.

Ray Serve passes the id on with every call of another process, so one id finds a request in the logs of the router, the
detector and the shares. They are these files only: stderr of the processes does not repeat them.
"""

import logging
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from infra.log import loggable
from infra.redaction import redact

_log = logging.getLogger("ray.serve.shan")
_log.setLevel(logging.INFO)  # also where Ray Serve itself logs warnings only
P = ParamSpec("P")
T = TypeVar("T")


def service_event(name: str, message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Logs an event of this process."""
    _log.log(level, redact(f"{name}: {message}"), extra={"event": name, "log_to_stderr": False, **loggable(fields)})


def traced(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorates a method that is a step of a request: its name, its seconds and whether it failed are an event."""

    @wraps(method)
    async def logged(*arguments: P.args, **options: P.kwargs) -> T:
        start, outcome = time.monotonic(), "failed"
        try:
            result = await method(*arguments, **options)
            outcome = "done"
            return result
        finally:
            seconds = time.monotonic() - start
            service_event(method.__name__, f"{outcome} in {1000 * seconds:.0f} ms", outcome=outcome, seconds=seconds)

    return logged
