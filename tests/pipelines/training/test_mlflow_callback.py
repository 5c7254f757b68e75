"""Metrics on their way to MLflow, while it is unreachable and afterwards."""

import logging
import queue
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray.train
from ray.train import Checkpoint, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from infra.tracking import RANK_LOG, Tracking
from pipelines.training import mlflow_callback
from pipelines.training.mlflow_callback import MlflowMetrics, MlflowSender, RankLogTags
from pipelines.training.worker import log_location
from tests.support.processes import wait_until


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


@pytest.fixture(autouse=True)
def _short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_callback, "RETRY_S", 0.01)
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "1")  # the sender sets them; restored after the test


def test_metrics_are_buffered_while_mlflow_is_unreachable():
    bar, tracking = Bar(), UnreliableTracking(failures=3)
    sender = MlflowSender(bar)
    for step in (10, 20):
        sender.send(partial(tracking.log_rows, "r", [(step, 0, {"loss": 1.0})]))
    assert [tracking.logged.get(timeout=10)[1][0][0] for _ in range(2)] == [10, 20]
    assert [(level, text) for _, level, text, _ in bar.logged] == [
        (logging.WARNING, "MLflow does not take metrics (http://host refused); they are buffered, training continues"),
        (logging.WARNING, "MLflow takes metrics again; buffered ones are sent"),
    ]


def test_callback_sends_rows_of_rank_0_and_logs_checkpoints():
    bar, tracking = Bar(), UnreliableTracking(failures=0)
    callback = MlflowMetrics(tracking, "r", MlflowSender(bar), bar, step=0)  # type: ignore[arg-type]
    reports = [{"rows": [(1, 2, {"loss": 3.0})], "step": 1}, {"rows": [], "step": 1}]
    callback.after_report(None, reports, Checkpoint("/runs/step-000001"))
    assert tracking.logged.get(timeout=10) == ("r", [(1, 2, {"loss": 3.0})])
    fields = {"event": "checkpoint_saved", "checkpoint": "step-000001", "run": "r", "step": 1}
    assert bar.logged == [("shan.events", logging.INFO, "checkpoint step-000001 is saved", fields)]


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_logs_of_ranks_are_named_before_the_first_report(tracking: Tracking, tmp_path: Path):
    """Also those of a training that stops before it; the ranks of an earlier session with more workers are removed."""
    run = tracking.create_run("a training", {f"{RANK_LOG}{rank}": "10.0.0.1:/earlier" for rank in range(3)})
    tags = RankLogTags(tracking, run, MlflowSender(None))

    def places() -> dict[str, str]:
        found = tracking.client().get_run(run).data.tags
        return {name: place for name, place in found.items() if name.startswith(RANK_LOG)}

    def loop() -> None:
        wait_until(lambda: set(places()) == {f"{RANK_LOG}0", f"{RANK_LOG}1"})
        place = places()[f"{RANK_LOG}{ray.train.get_context().get_world_rank()}"]
        assert place == log_location()

    config = RunConfig(name="logs", storage_path=str(tmp_path), callbacks=[tags])
    TorchTrainer(loop, scaling_config=ScalingConfig(num_workers=2), run_config=config).fit()


def test_callback_logs_which_rank_was_lost():
    bar = Bar()
    callback = MlflowMetrics(UnreliableTracking(0), "r", MlflowSender(bar), bar, step=20)  # type: ignore[arg-type]
    callback.after_exception(None, {1: ValueError("a\nb")})
    assert bar.logged[0] == ("workers to restart",)
    _, _, text, fields = bar.logged[1]
    assert text == "rank 1 was lost (ValueError: a); workers restart from the last checkpoint"
    assert (fields["event"], fields["rank"], fields["step"]) == ("workers_restart", 1, 20)
    callback.after_report(None, [{"rows": [], "step": 40}], Checkpoint("/runs/step-000040"))
    callback.after_exception(None, {1: ValueError("a")})
    assert bar.logged[-1][3]["step"] == 40
