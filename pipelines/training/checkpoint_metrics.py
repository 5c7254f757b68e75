"""Counts of stored and failed checkpoints (infra/metrics.py), from the controller process of Ray Train.

Ray Train ends the workers right after a failed upload; the controller continues, and reports what it has counted.
"""

from typing import Any

from ray.train import Checkpoint, UserCallback

from infra.metrics import CHECKPOINT_FAILURES, CHECKPOINTS

FAILED_UPLOAD = "failed_upload"
"""Attribute of the exception that a failed upload raises in the worker, with the name of the checkpoint.

A note of the exception would become part of its message."""


class CheckpointMetrics(UserCallback):
    """Counts checkpoints that are stored and listed, and those whose upload has failed."""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:  # noqa: ARG002
        """Called by Ray Train once every rank has reported and the checkpoint is stored and listed."""
        if checkpoint is not None:
            CHECKPOINTS.add()

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Called by Ray Train's controller when workers have failed."""
        for error in worker_exceptions.values():
            if FAILED_UPLOAD in vars(error):
                CHECKPOINT_FAILURES.add()
