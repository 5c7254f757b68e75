"""Sends metrics and places of logs to MLflow while a training runs, from the controller process of Ray Train."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from ray.train import Checkpoint, UserCallback

from infra.tracking import RANK_LOG, Tracking
from infra.tracking_errors import reason_of

RETRY_S = 5.0
"""Seconds between attempts while MLflow is unreachable or fails."""


class MlflowMetrics(UserCallback):
    """Logs the metrics that come with each checkpoint. The driver logs what is still missing at the end.

    What the controller logs goes to the driver by the actor of the progress bar.
    """

    def __init__(self, tracking: Tracking, run_id: str, bar: Any) -> None:
        self._tracking, self._run_id, self._bar = tracking, run_id, bar
        self._sender: MetricSender | None = None
        self._logs: dict[str, str] = {}

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:  # noqa: ARG002
        """Called by Ray Train once every rank has reported and the checkpoint is stored and listed."""
        if self._sender is None:  # a thread cannot be pickled, so it is started in the process that uses it
            self._sender = MetricSender(self._bar)
            self._sender.start()
        self._sender.calls.put(partial(self._tracking.log_rows, self._run_id, metrics[0]["rows"]))
        logs = {f"{RANK_LOG}{rank}": each["log"] for rank, each in enumerate(metrics)}
        if logs != self._logs:  # of the first workers, or of new ones
            self._logs = logs
            self._sender.calls.put(partial(self._tracking.set_tags, self._run_id, logs))
        if checkpoint is not None:
            name = PurePosixPath(checkpoint.path).name
            self._event("checkpoint_saved", f"checkpoint {name} is saved", checkpoint=name)

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Called by Ray Train when workers have failed. It restarts them, which may wait for resources."""
        self._bar.wait.remote("workers to restart")
        for rank, error in worker_exceptions.items():
            reason = (str(error).strip().splitlines() or [""])[0][:500]
            text = f"rank {rank} was lost ({type(error).__name__}: {reason}); workers restart from the last checkpoint"
            self._event("workers_restart", text, rank=rank)

    def _event(self, name: str, message: str, **fields: Any) -> None:
        fields |= {"event": name, "run": self._run_id}
        self._bar.log.remote("shan.events", logging.INFO, message, fields)


class MetricSender(threading.Thread):
    """Makes calls of MLflow in order. While it is unreachable or fails they are buffered, and training continues."""

    def __init__(self, bar: Any) -> None:
        super().__init__(name="mlflow-metrics", daemon=True)
        self._bar = bar
        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def run(self) -> None:
        """Sends until the process ends."""
        # MLflow would retry silently for minutes; the user is warned within seconds instead.
        os.environ.update(MLFLOW_HTTP_REQUEST_TIMEOUT="20", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
        while True:
            self._send(self.calls.get())

    def _send(self, call: Callable[[], None]) -> None:
        warned = False
        while True:
            try:
                call()
            except Exception as error:  # noqa: BLE001 no error of MLflow may stop the training
                if not warned:
                    self._warn(
                        f"MLflow does not take metrics ({reason_of(error)}); they are buffered, training continues"
                    )
                warned = True
                time.sleep(RETRY_S)
            else:
                if warned:
                    self._warn("MLflow takes metrics again; buffered ones are sent")
                return

    def _warn(self, text: str) -> None:
        self._bar.log.remote("shan", logging.WARNING, text, {"event": "tracking_outage"})
