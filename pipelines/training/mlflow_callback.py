"""Sends metrics and places of logs to MLflow while a training runs, from the controller process of Ray Train."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ray.train import Checkpoint, UserCallback
from ray.train.v2._internal.execution.callback import WorkerGroupCallback

from infra.tracking import RANK_LOG, Tracking
from infra.tracking_errors import reason_of

if TYPE_CHECKING:
    from ray.train.v2._internal.execution.worker_group import WorkerGroup

RETRY_S = 5.0
"""Seconds between attempts while MLflow is unreachable or fails."""


class MlflowSender:
    """Makes calls of MLflow in order, in a thread. While it is unreachable or fails they are buffered.

    `bar` is the actor of the progress bar, by which warnings reach the driver.
    """

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._calls: queue.SimpleQueue[Callable[[], None]] | None = None

    def send(self, call: Callable[[], None]) -> None:
        """Adds a call, which the thread makes after the earlier ones."""
        if self._calls is None:  # queue and thread cannot be pickled, so they are created in the process that sends
            self._calls = queue.SimpleQueue()
            threading.Thread(target=self._run, args=(self._calls,), name="mlflow-sender", daemon=True).start()
        self._calls.put(call)

    def _run(self, calls: "queue.SimpleQueue[Callable[[], None]]") -> None:
        # MLflow would retry silently for minutes; the user is warned within seconds instead.
        os.environ.update(MLFLOW_HTTP_REQUEST_TIMEOUT="20", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
        while True:
            self._make(calls.get())

    def _make(self, call: Callable[[], None]) -> None:
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


class RankLogTags(WorkerGroupCallback):
    """Names the log of each rank in a tag of the run (RANK_LOG), when Ray Train has started the workers or new ones."""

    def __init__(self, tracking: Tracking, run_id: str, sender: MlflowSender) -> None:
        self._tracking, self._run_id, self._sender = tracking, run_id, sender

    def after_worker_group_start(self, worker_group: "WorkerGroup") -> None:
        """Called by Ray Train before the workers train. Tags of ranks that no longer exist are deleted."""
        logs = {
            f"{RANK_LOG}{rank}": f"{worker.metadata.node_ip}:{worker.log_file_path}"
            for rank, worker in enumerate(worker_group.get_workers())
        }
        self._sender.send(partial(self._tracking.replace_tags, self._run_id, RANK_LOG, logs))


class MlflowMetrics(UserCallback):
    """Logs the metrics that come with each checkpoint. The driver logs what is still missing at the end.

    Events go to the driver by the actor of the progress bar. `step` is that of the checkpoint from which it resumes.
    """

    def __init__(self, tracking: Tracking, run_id: str, sender: MlflowSender, bar: Any, step: int) -> None:
        self._tracking, self._run_id, self._sender, self._bar, self._step = tracking, run_id, sender, bar, step

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:  # noqa: ARG002
        """Called by Ray Train once every rank has reported and the checkpoint is stored and listed."""
        self._sender.send(partial(self._tracking.log_rows, self._run_id, metrics[0]["rows"]))
        if checkpoint is not None:
            self._step, name = metrics[0]["step"], PurePosixPath(checkpoint.path).name
            self._event("checkpoint_saved", f"checkpoint {name} is saved", checkpoint=name)

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Called by Ray Train when workers have failed. It restarts them, which may wait for resources."""
        self._bar.wait.remote("workers to restart")
        for rank, error in worker_exceptions.items():
            reason = (str(error).strip().splitlines() or [""])[0][:500]
            text = f"rank {rank} was lost ({type(error).__name__}: {reason}); workers restart from the last checkpoint"
            self._event("workers_restart", text, rank=rank)

    def _event(self, name: str, message: str, **fields: Any) -> None:
        fields |= {"event": name, "run": self._run_id, "step": self._step}
        self._bar.log.remote("shan.events", logging.INFO, message, fields)
