"""Metrics on their way to MLflow, while it is unreachable and afterwards."""

import queue
from typing import Any

import pytest

from pipelines.training import mlflow_callback
from pipelines.training.mlflow_callback import MetricSender, MlflowMetrics


class Bar:
    """Records warnings, in place of the actor of the progress bar."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.warn = self

    def remote(self, text: str) -> None:
        self.warnings.append(text)


class UnreliableTracking:
    """Fails some calls, then records them."""

    def __init__(self, failures: int) -> None:
        self.failures, self.logged = failures, queue.SimpleQueue[Any]()

    def log_rows(self, run_id: str, rows: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("http://user:secret@host refused\nthe connection")
        self.logged.put((run_id, rows))


@pytest.fixture(autouse=True)
def _short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_callback, "RETRY_S", 0.01)
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "1")  # the sender sets them; restored after the test


def test_metrics_are_buffered_while_mlflow_is_unreachable():
    bar, tracking = Bar(), UnreliableTracking(failures=3)
    sender = MetricSender(tracking, "r", bar)  # type: ignore[arg-type]
    sender.start()
    for step in (10, 20):
        sender.rows.put([(step, 0, {"loss": 1.0})])
    assert [tracking.logged.get(timeout=10)[1][0][0] for _ in range(2)] == [10, 20]
    assert bar.warnings == [
        "MLflow does not take metrics (http://host refused); they are buffered, training continues",
        "MLflow takes metrics again; buffered ones are sent",
    ]


def test_callback_sends_the_rows_of_rank_0():
    tracking = UnreliableTracking(failures=0)
    callback = MlflowMetrics(tracking, "r", Bar())  # type: ignore[arg-type]
    callback.after_report(None, [{"rows": [(1, 2, {"loss": 3.0})]}, {"rows": []}], None)
    assert tracking.logged.get(timeout=10) == ("r", [(1, 2, {"loss": 3.0})])
