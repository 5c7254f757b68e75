"""Calls that cannot be interrupted, in a thread that its caller can abandon."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T]) -> Future[T]:
    """Starts a call and returns its future result. The process may end meanwhile, unlike with an executor's threads."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised by `Future.result`
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result
