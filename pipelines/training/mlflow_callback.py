"""Metrics from Ray Train to MLflow while training runs: a callback in Ray Train's controller process."""

import os
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

from ray.train import Checkpoint, UserCallback

from infra.redaction import redact
from infra.tracking import Tracking
from pipelines.training.checkpoint import Row

AGAIN_S = 5.0
"""Seconds before a server that did not answer is asked again."""


class MlflowMetrics(UserCallback):
    """Logs the points of the curves that a checkpoint brings; what it fails to log, the driver sees to in the end."""

    def __init__(self, tracking: Tracking, run_id: str, bar: Any) -> None:
        self._tracking, self._run_id, self._bar = tracking, run_id, bar
        self._sender: Sender | None = None

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:  # noqa: ARG002
        """One call of Ray Train after every rank has reported, and the checkpoint is stored and on record."""
        if self._sender is None:  # threads do not travel, so it begins where it is used
            self._sender = Sender(self._tracking, self._run_id, self._bar)
            self._sender.start()
        self._sender.rows.put(metrics[0]["rows"])


class Sender(threading.Thread):
    """Sends rows one after the other. While the server is away they wait; training does not."""

    def __init__(self, tracking: Tracking, run_id: str, bar: Any) -> None:
        super().__init__(name="mlflow-rows", daemon=True)
        self._tracking, self._run_id, self._bar = tracking, run_id, bar
        self.rows: queue.SimpleQueue[Sequence[Row]] = queue.SimpleQueue()

    def run(self) -> None:
        """Until the process ends."""
        # MLflow retries for minutes without a word; the user is told in seconds instead.
        os.environ.update(MLFLOW_HTTP_REQUEST_TIMEOUT="20", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
        while True:
            self._send(self.rows.get())

    def _send(self, rows: Sequence[Row]) -> None:
        told = False
        while True:
            try:
                self._tracking.log_rows(self._run_id, rows)
            except Exception as error:  # noqa: BLE001 whatever it is, training goes on
                if not told:
                    reason = redact((str(error).strip().splitlines() or [type(error).__name__])[0])[:160]
                    self._bar.warn.remote(f"MLflow does not take metrics ({reason}); they wait, training goes on")
                told = True
                time.sleep(AGAIN_S)
            else:
                if told:
                    self._bar.warn.remote("MLflow takes metrics again")
                return
