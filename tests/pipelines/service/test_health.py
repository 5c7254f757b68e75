"""The health of a service: failed and partial searches, and shares without a process."""

import asyncio

import pytest

import pipelines.service.health
from pipelines.service.health import FAILURES, Health


def fail(health: Health, error: type[BaseException], seconds_left: float = 1.0) -> None:
    async def search() -> None:
        with health.counting(asyncio.get_running_loop().time() + seconds_left):
            raise error

    with pytest.raises(error):
        asyncio.run(search())


def test_searches_that_fail_in_a_row_are_reported():
    health = Health()
    for _ in range(FAILURES - 1):
        fail(health, TimeoutError)
    assert health.status == "ok"
    health.succeeded(is_partial=False)
    for _ in range(FAILURES):
        assert health.status == "ok"
        fail(health, TimeoutError)
    assert health.status == "unavailable"
    health.succeeded(is_partial=False)
    assert health.status == "ok"


@pytest.mark.parametrize(("seconds_left", "status"), [(1.0, "ok"), (-0.1, "unavailable")])
def test_a_client_that_leaves_is_not_a_failure(seconds_left: float, status: str):
    health = Health()
    for _ in range(FAILURES):
        fail(health, asyncio.CancelledError, seconds_left)
    assert health.status == status


def test_shares_without_a_process_are_reported():
    health = Health()
    health.shares = 2
    for lost, status in (((), "ok"), ((1,), "partial"), ((0, 1), "unavailable"), ((), "ok")):
        health.lost = lost
        assert health.status == status


def test_results_count_for_a_time(monkeypatch: pytest.MonkeyPatch):
    health = Health()
    health.succeeded(is_partial=True)
    assert health.status == "partial"
    for _ in range(FAILURES):
        fail(health, TimeoutError)
    assert health.status == "unavailable"
    monkeypatch.setattr(pipelines.service.health, "RECENT_S", 0.0)
    assert health.status == "ok"
