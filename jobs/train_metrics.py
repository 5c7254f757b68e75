"""Metrics from Ray Train to MLflow while training runs: a callback in Ray Train's controller process."""

from typing import Any

from ray.train import Checkpoint, UserCallback

from infra.tracking import Tracking


class MlflowMetrics(UserCallback):
    """Logs what rank 0 reports, at the step it belongs to: the loss of every step, everything else once an epoch."""

    def __init__(self, tracking: Tracking, run_id: str) -> None:
        self._tracking, self._run_id = tracking, run_id

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:  # noqa: ARG002
        """One call of Ray Train after every rank has reported an epoch."""
        epoch = dict(metrics[0])
        losses, step = epoch.pop("losses"), int(epoch.pop("step"))
        del epoch["loss"]
        history: list[tuple[int, dict[str, float]]] = [
            (step - len(losses) + i + 1, {"loss": loss}) for i, loss in enumerate(losses)
        ]
        self._tracking.log_history(self._run_id, [*history, (step, epoch)])
