"""Events of steps: name, time and outcome, in the log of the process and not on its stderr."""

import asyncio
import logging

import pytest

from pipelines.service.events import service_event, traced


class Steps:
    @traced
    async def rerank(self, number: int) -> int:
        if not number:
            raise ZeroDivisionError
        return number


def test_a_step_is_an_event_also_if_it_fails(service_log: list[logging.LogRecord]):
    assert asyncio.run(Steps().rerank(3)) == 3
    with pytest.raises(ZeroDivisionError):
        asyncio.run(Steps().rerank(0))
    assert [vars(record)["outcome"] for record in service_log] == ["done", "failed"]
    assert all(record.getMessage().startswith("rerank: ") for record in service_log)
    assert not any(vars(record)["log_to_stderr"] for record in service_log)


def test_an_event_has_no_credentials(service_log: list[logging.LogRecord]):
    service_event("problem", "https://me:hunter2@host/ is unreachable", stores=["https://me:hunter2@host/"])
    assert vars(service_log[0])["stores"] == ["https://host/"]
    assert service_log[0].getMessage() == "problem: https://host/ is unreachable"
