"""Which failures of a training a restart can cure.

Ray Train counts every exception of a worker towards `train.max_failures` and restarts from the last checkpoint, also
where that only repeats the error: a loss that diverges, a corrupt shard, a cache that is too small, a defect.
"""

from typing import Any

from ray.exceptions import RayError
from ray.train import ControllerError, TrainingFailedError, UserCallback

RESTARTABLE = (OSError, RuntimeError, MemoryError, RayError)
"""Connections and stores (OSError), collectives and devices (torch: RuntimeError), lost processes and nodes (Ray)."""


class FailAtOnce(UserCallback):
    """Ends the training at an exception of a worker that a restart would only repeat."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Called by Ray Train's controller; it ends the training if a callback raises."""
        for error in worker_exceptions.values():
            if _is_permanent(error):
                raise error


def permanent_cause(error: TrainingFailedError | RayError) -> Exception | None:
    """Returns the exception of a worker that ended the training at once, or None if restarts were used up."""
    cause = error.controller_failure if isinstance(error, ControllerError) else None
    return cause if cause is not None and _is_permanent(cause) else None


def _is_permanent(error: BaseException) -> bool:
    ray_train = type(error).__module__.startswith("ray.train.")  # its errors have no public base class
    return isinstance(error, Exception) and not isinstance(error, RESTARTABLE) and not ray_train
