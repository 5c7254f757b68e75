"""The clock of a transfer."""

import time

import pytest

from infra.minimum_rate import MinimumRate


@pytest.mark.parametrize(
    ("seconds", "received", "missed"), [(20, 0, False), (21, 0, True), (21, 1024, False), (31, 10240, True)]
)
def test_a_lower_average_after_the_grace_misses_the_rate(
    monkeypatch: pytest.MonkeyPatch, seconds: float, received: int, missed: bool
):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rate = MinimumRate(grace_s=20)
    now += seconds
    assert rate.is_missed(received) is missed
    assert str(rate) == "1024 bytes per second"
