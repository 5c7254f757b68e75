"""Calls of processes that end: repeated once, unlike calls that fail."""

import asyncio

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from pipelines.service.calls import lost_process, retried


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (ActorDiedError(), True),
        (ActorUnavailableError("away", None), True),
        (RayTaskError("search", "Traceback ...", ActorDiedError()), True),
        (RayTaskError("search", "Traceback ...", ZeroDivisionError()), False),
        (ZeroDivisionError(), False),
        (TimeoutError(), False),
    ],
)
def test_a_lost_process_is_not_a_failure(error: Exception, lost: bool):
    assert lost_process(error) == lost


def test_a_call_is_repeated_once_if_its_process_ends():
    async def run_twice() -> None:
        errors: list[Exception] = [ActorDiedError()]

        async def call() -> str:
            if errors:
                raise errors.pop()
            return "done"

        assert await retried(call) == "done"
        errors += [ActorDiedError(), ActorDiedError()]
        with pytest.raises(ActorDiedError):
            await retried(call)

    asyncio.run(run_twice())
