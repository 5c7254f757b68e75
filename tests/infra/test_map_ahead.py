"""Tests of the map on threads that runs a few items ahead."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.map_ahead import map_ahead


def test_results_are_in_order_and_few_items_are_taken_ahead():
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    def slow_at_first(number: int) -> int:
        time.sleep(0.01 if number < 3 else 0)
        return number * 2

    with ThreadPoolExecutor(4) as pool:
        results = map_ahead(pool, slow_at_first, items(), ahead=6)
        assert next(results) == 0
        assert len(taken) == 7
        assert list(results) == [number * 2 for number in range(1, 50)]


def test_an_error_ends_it_and_cancels_what_has_not_started():
    done = []

    def work(number: int) -> None:
        if number == 0:
            raise ValueError("zero")
        time.sleep(0.05)
        done.append(number)

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="zero"):
        list(map_ahead(pool, work, range(20), ahead=20))
    assert len(done) <= 2
