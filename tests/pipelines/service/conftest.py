"""What the service logs, in the test process."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def service_log() -> Iterator[list[logging.LogRecord]]:
    """Returns the records of the service's events, as they are logged."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("ray.serve.shan")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)
