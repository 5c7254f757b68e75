"""System metrics of a run whose server is unreachable for a while."""

import time
from pathlib import Path

import pytest

from infra.system_metrics import system_metrics
from infra.tracking import TrackingConfig, connect
from tests.support.faulty_proxy import CUT_BEFORE, faulty_proxy
from tests.support.processes import wait_until


def test_sampling_continues_when_the_server_returns(tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # MLflow's monitor stops at the first failure
    with faulty_proxy(mlflow_uri) as proxy:
        tracking = connect(TrackingConfig(uri=proxy.endpoint, experiment=str(tmp_path)))
        direct = connect(TrackingConfig(uri=mlflow_uri, experiment=str(tmp_path))).client()
        run_id = tracking.create_run("measured", {})

        def latest() -> int:
            history = direct.get_metric_history(run_id, "system/cpu_utilization_percentage")
            return max((value.timestamp for value in history), default=0)

        with system_metrics(tracking, run_id):
            wait_until(lambda: latest() > 0, timeout_s=60, every_s=0.2)
            proxy.always(CUT_BEFORE)
            wait_until(lambda: proxy.counts[CUT_BEFORE] >= 2, timeout_s=60, every_s=0.2)
            proxy.always(None)
            back = time.time_ns() // 1_000_000
            wait_until(lambda: latest() > back, timeout_s=60, every_s=0.2)
            assert latest() > back
