"""Runs stages as they run outside of a Ray job, where no cluster keeps their attempts."""

import pytest
import ray


@pytest.fixture
def without_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the test process's connection to Ray, which its forked processes could neither use nor leave intact."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
