"""Metrics on their way to MLflow, while it is unreachable and afterwards."""

import logging
import queue
from functools import partial
from typing import Any

import pytest
from ray.train import Checkpoint

from pipelines.training import mlflow_callback
from pipelines.training.mlflow_callback import MetricSender, MlflowMetrics


class Bar:
    """Records what is logged, in place of the actor of the progress bar."""

    def __init__(self) -> None:
        self.logged: list[tuple[str, int, str, dict[str, Any]]] = []
        self.log = self.wait = self

    def remote(self, *record: Any) -> None:
        self.logged.append(record)


class UnreliableTracking:
    """Fails some calls, then records them."""

    def __init__(self, failures: int) -> None:
        self.failures, self.logged = failures, queue.SimpleQueue[Any]()

    def log_rows(self, run_id: str, rows: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("http://user:secret@host refused\nthe connection")
        self.logged.put((run_id, rows))

    set_tags = log_rows


@pytest.fixture(autouse=True)
def _short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_callback, "RETRY_S", 0.01)
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "1")  # the sender sets them; restored after the test


def test_metrics_are_buffered_while_mlflow_is_unreachable():
    bar, tracking = Bar(), UnreliableTracking(failures=3)
    sender = MetricSender(bar)
    sender.start()
    for step in (10, 20):
        sender.calls.put(partial(tracking.log_rows, "r", [(step, 0, {"loss": 1.0})]))
    assert [tracking.logged.get(timeout=10)[1][0][0] for _ in range(2)] == [10, 20]
    assert [(level, text) for _, level, text, _ in bar.logged] == [
        (logging.WARNING, "MLflow does not take metrics (http://host refused); they are buffered, training continues"),
        (logging.WARNING, "MLflow takes metrics again; buffered ones are sent"),
    ]


def test_callback_sends_rows_of_rank_0_and_places_of_logs():
    bar, tracking = Bar(), UnreliableTracking(failures=0)
    callback = MlflowMetrics(tracking, "r", bar)  # type: ignore[arg-type]
    for log in ("a", "a", "b"):
        reports = [{"rows": [(1, 2, {"loss": 3.0})], "log": log}, {"rows": [], "log": "c"}]
        callback.after_report(None, reports, Checkpoint("/runs/step-000001"))
    rows = ("r", [(1, 2, {"loss": 3.0})])
    sent = [tracking.logged.get(timeout=10) for _ in range(5)]
    first, other = ({"log.rank_0": log, "log.rank_1": "c"} for log in ("a", "b"))
    assert sent == [rows, ("r", first), rows, rows, ("r", other)]
    fields = {"event": "checkpoint_saved", "checkpoint": "step-000001", "run": "r"}
    assert bar.logged == [("shan.events", logging.INFO, "checkpoint step-000001 is saved", fields)] * 3


def test_callback_logs_which_rank_was_lost():
    bar = Bar()
    MlflowMetrics(UnreliableTracking(0), "r", bar).after_exception(None, {1: ValueError("a\nb")})  # type: ignore[arg-type]
    assert bar.logged[0] == ("workers to restart",)
    _, _, text, fields = bar.logged[1]
    assert text == "rank 1 was lost (ValueError: a); workers restart from the last checkpoint"
    assert (fields["event"], fields["rank"]) == ("workers_restart", 1)
