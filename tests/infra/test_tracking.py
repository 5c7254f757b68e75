"""Tracking stores that answer and those that do not."""

import socket
import time
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.tracking import Tracking, TrackingConfig, connect

pytestmark = pytest.mark.slow


def test_a_run_keeps_params_metrics_and_its_end(tracking: Tracking):
    with tracking.run("one", {"lineage.manifest": "m"}) as run_id:
        tracking.log_params(run_id, {"a.b": 1, "c": "x"})
        tracking.log_history(run_id, [(step, {"loss": 1 / (step + 1), "lr": 0.1}) for step in range(1500)])
    run = tracking.client().get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"a.b": "1", "c": "x"}
    assert run.data.tags["lineage.manifest"] == "m"
    history = tracking.client().get_metric_history(run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(step, 1 / (step + 1)) for step in range(1500)]


def test_a_run_that_raises_is_marked_failed(tracking: Tracking):
    with pytest.raises(ZeroDivisionError), tracking.run("two", {}) as run_id:
        1 / 0  # noqa: B018
    assert tracking.client().get_run(run_id).info.status == "FAILED"


def test_a_server_that_does_not_answer_is_said_within_seconds():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(UserError, match=f"127.0.0.1:{port}.*does not answer.*start its server") as caught:
        connect(TrackingConfig(uri=f"http://127.0.0.1:{port}"))
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/x", "sqlite:relative.db"])
def test_what_is_no_tracking_store_is_refused(uri: str):
    with pytest.raises(UserError, match="no tracking store; use http"):
        connect(TrackingConfig(uri=uri))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "mlflow.db").write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    with pytest.raises(UserError, match="does not answer"):
        connect(TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"))
