"""Prefetching iterators."""

from collections.abc import Iterator

import pytest

from pipelines.training.prefetch import prefetch


def test_items_keep_their_order_and_errors_their_position():
    def numbers() -> Iterator[int]:
        yield from range(5)
        raise ValueError("the sixth")

    items = prefetch(numbers())
    assert [next(items) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="the sixth"):
        next(items)
    assert list(prefetch(iter(range(9)), 2)) == list(range(9))


def test_closing_ends_an_endless_iterator():
    endless = prefetch(iter(int, 1))
    assert next(endless) == 0
    endless.close()  # type: ignore[attr-defined]
