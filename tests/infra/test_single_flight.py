"""A cache for threads runs a function once for the same arguments."""

import gc
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from infra.single_flight import single_flight_cache


class Value:
    """A result that can be observed to be released."""


def test_threads_that_miss_at_the_same_time_share_one_call():
    calls = []

    @single_flight_cache(8)
    def slow(number: int) -> object:
        calls.append(number)
        time.sleep(0.05)
        return Value()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(slow, [1, 2] * 8))
    assert sorted(calls) == [1, 2]
    assert len(set(map(id, found))) == 2


def test_different_arguments_do_not_wait_for_each_other():
    second_runs = Event()

    @single_flight_cache(8)
    def first_waits(number: int) -> bool:
        return second_runs.wait(60) if number == 1 else second_runs.set() is None

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: first_waits(1))
        assert first_waits(2)
        assert first.result(60)


def test_an_old_result_is_released_before_the_next_is_computed():
    kept: list[weakref.ref[Value]] = []
    alive = []

    @single_flight_cache(1)
    def value(_: int) -> Value:
        gc.collect()
        alive.append(sum(reference() is not None for reference in kept))
        result = Value()
        kept.append(weakref.ref(result))
        return result

    for number in (0, 1, 1, 0):
        value(number)
    assert alive == [0, 0, 0]


def test_an_error_is_raised_and_not_kept():
    calls = []

    @single_flight_cache(1)
    def fails_first() -> int:
        calls.append(1)
        return 1 // (len(calls) - 1)

    with pytest.raises(ZeroDivisionError):
        fails_first()
    assert (fails_first(), fails_first(), len(calls)) == (1, 1, 2)
