"""System metrics of a run whose server is unreachable for a while."""

import time
from pathlib import Path

import pytest
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from infra.system_metrics import system_metrics
from infra.tracking import TrackingConfig, connect
from tests.support.processes import wait_until
from tests.support.servers import mlflow_server


@pytest.mark.integration
def test_sampling_continues_when_the_server_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # MLflow's monitor stops at the first failure
    ended, monitor = list[bool](), SystemMetricsMonitor.monitor

    def counted(self: SystemMetricsMonitor) -> None:
        monitor(self)
        ended.append(True)

    monkeypatch.setattr(SystemMetricsMonitor, "monitor", counted)
    with mlflow_server(tmp_path) as server:
        tracking = connect(TrackingConfig(uri=server.uri))
        run_id = tracking.create_run("measured", {})

        def latest() -> int:
            history = tracking.client().get_metric_history(run_id, "system/cpu_utilization_percentage")
            return max((value.timestamp for value in history), default=0)

        with system_metrics(tracking, run_id):
            wait_until(lambda: latest() > 0, timeout_s=60, every_s=0.2)
            server.stop()
            wait_until(lambda: len(ended) > 0, timeout_s=60)
            server.start()
            back = time.time_ns() // 1_000_000
            wait_until(lambda: latest() > back, timeout_s=60, every_s=0.2)
            assert latest() > back
