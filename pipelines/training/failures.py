"""Which failures of a training a restart can cure.

Ray Train counts every exception of a worker towards `train.max_failures` and restarts from the last checkpoint, also
where that only repeats the error: a loss that diverges, a corrupt shard, a cache that is too small, a defect.
"""

import re
from typing import Any

import torch
from ray.exceptions import RayError
from ray.train import ControllerError, TrainingFailedError, UserCallback
from torch.distributed import DistError

from infra.errors import AccessDeniedError, UserError
from pipelines.training.config import TrainConfig

RESTARTABLE = (OSError, RuntimeError, MemoryError, RayError)
"""Connections and stores (OSError), collectives and devices (torch: RuntimeError), lost processes and nodes (Ray)."""
PERMANENT = (
    *(AccessDeniedError, PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError),
    *(NotImplementedError, RecursionError),
)
"""Subclasses of OSError and RuntimeError that a restart repeats: paths and code that do not change meanwhile."""
LOST_PEER_OR_DEVICE = re.compile(
    r"gloo|NCCL|connection|socket|timed out|timeout|CUDA error(?!: device-side assert)|cuDNN error|CUDA driver"
    r"|CUDA GPUs|can't allocate memory|start new thread",
    re.IGNORECASE,
)
"""Texts of a RuntimeError that a restart can cure.

Gloo's errors, cuDNN's and those of memory have no type of their own. Those of CUDA have one, torch.AcceleratorError,
only since torch 2.8, and the same texts. Any other RuntimeError, such as one of shapes, depends on the batch and the
weights only, which a restart repeats."""


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


def out_of_memory(error: torch.OutOfMemoryError, config: TrainConfig) -> UserError:
    """Returns the error of a GPU whose memory is too small for a step. A restart would repeat it."""
    reason = " ".join(str(error).partition(" Including ")[0].split()).rstrip(".")
    precision = ", or set train.precision=bf16" if config.precision == "fp32" else ""
    return UserError(
        f"train.batch_size is {config.batch_size} with train.num_workers={config.num_workers}, for which a GPU has too "
        f"little memory ({reason}); lower train.batch_size, or raise train.num_workers (they share a batch){precision}"
    )


def _is_permanent(error: BaseException) -> bool:
    if type(error).__module__.startswith("ray.train."):  # its errors have no public base class
        return False
    if isinstance(error, RuntimeError) and not isinstance(error, (*PERMANENT, DistError, RayError)):
        return LOST_PEER_OR_DEVICE.search(str(error)) is None
    return isinstance(error, Exception) and (isinstance(error, PERMANENT) or not isinstance(error, RESTARTABLE))
