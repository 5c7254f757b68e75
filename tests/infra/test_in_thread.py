"""A call in a thread returns or raises as it does without."""

import pytest

from infra.in_thread import in_thread


def test_results_and_errors_reach_the_caller():
    assert in_thread(lambda: 3).result(60) == 3
    with pytest.raises(ZeroDivisionError):
        in_thread(lambda: 1 // 0).result(60)
