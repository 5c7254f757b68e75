"""Calls of other processes of the service, which may end at any time. All calls only read, so they can be repeated."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def retried(call: Callable[[], Awaitable[T]]) -> T:
    """Awaits a call; if its process ends meanwhile, a second one, of another process or of the restarted one."""
    try:
        return await call()
    except Exception as error:
        if not lost_process(error):
            raise
    return await call()


def lost_process(error: BaseException) -> bool:
    """Returns whether an error states that a process ended, or is not reachable, rather than that it failed."""
    from ray.exceptions import RayActorError, TaskCancelledError
    from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError

    lost = (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError, TaskCancelledError)
    return isinstance(error, lost) or isinstance(getattr(error, "cause", None), lost)
