"""Sends metrics to MLflow while a training runs, from the controller process of Ray Train."""

import os
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

from ray.train import Checkpoint, UserCallback

from infra.tracking import Tracking
from infra.tracking_errors import reason_of
from pipelines.training.checkpoint import MetricRow

RETRY_S = 5.0
"""Seconds between attempts while MLflow is unreachable or fails."""


class MlflowMetrics(UserCallback):
    """Logs the metrics that come with each checkpoint. The driver logs what is still missing at the end."""

    def __init__(self, tracking: Tracking, run_id: str, bar: Any) -> None:
        self._tracking, self._run_id, self._bar = tracking, run_id, bar
        self._sender: MetricSender | None = None

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:  # noqa: ARG002
        """Called by Ray Train once every rank has reported and the checkpoint is stored and listed."""
        if self._sender is None:  # a thread cannot be pickled, so it is started in the process that uses it
            self._sender = MetricSender(self._tracking, self._run_id, self._bar)
            self._sender.start()
        self._sender.rows.put(metrics[0]["rows"])

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Called by Ray Train when workers have failed. It restarts them, which may wait for resources."""
        self._bar.wait.remote("workers to restart")


class MetricSender(threading.Thread):
    """Sends metrics in order. While MLflow is unreachable or fails they are buffered, and training continues."""

    def __init__(self, tracking: Tracking, run_id: str, bar: Any) -> None:
        super().__init__(name="mlflow-metrics", daemon=True)
        self._tracking, self._run_id, self._bar = tracking, run_id, bar
        self.rows: queue.SimpleQueue[Sequence[MetricRow]] = queue.SimpleQueue()

    def run(self) -> None:
        """Sends until the process ends."""
        # MLflow would retry silently for minutes; the user is warned within seconds instead.
        os.environ.update(MLFLOW_HTTP_REQUEST_TIMEOUT="20", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
        while True:
            self._send(self.rows.get())

    def _send(self, rows: Sequence[MetricRow]) -> None:
        warned = False
        while True:
            try:
                self._tracking.log_rows(self._run_id, rows)
            except Exception as error:  # noqa: BLE001 no error of MLflow may stop the training
                if not warned:
                    warning = (
                        f"MLflow does not take metrics ({reason_of(error)}); they are buffered, training continues"
                    )
                    self._bar.warn.remote(warning)
                warned = True
                time.sleep(RETRY_S)
            else:
                if warned:
                    self._bar.warn.remote("MLflow takes metrics again; buffered ones are sent")
                return
