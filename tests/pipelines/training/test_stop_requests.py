"""A request to stop reaches the first worker, and the step that logs metrics is the last one.

`tests/faults/test_training_faults.py` interrupts a training.
"""

import pytest

from infra.progress import worker_bar
from pipelines.training import stop_requests
from pipelines.training.stop_requests import StopRequests


def test_the_last_step_is_one_that_logs(ray_session: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stop_requests, "CHECK_S", 0.0)
    with worker_bar("train", 100, "step", "") as bar:
        requests = StopRequests(bar, log_every_n_steps=10)
        assert not any(requests.must_stop(step) for step in (9, 10))
        bar.request_stop.remote()
        assert [requests.must_stop(step) for step in (11, 19, 20)] == [False, False, True]
        monkeypatch.setattr(stop_requests, "DELAY_S", 0.0)
        assert requests.must_stop(21)  # it does not wait longer


def test_a_training_continues_when_its_bar_is_gone(ray_session: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stop_requests, "CHECK_S", 0.0)
    with worker_bar("train", 100, "step", "") as bar:
        requests = StopRequests(bar, log_every_n_steps=10)
    assert not requests.must_stop(10)
