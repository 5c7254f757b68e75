"""Configuration of a sweep."""

import pytest

from pipelines.training.sweeps.config import SweepConfig


@pytest.mark.parametrize(
    ("field", "value"), [("num_trials", 0), ("grace_period_epochs", 0), ("reduction_factor", 1), ("seed", -1)]
)
def test_a_value_out_of_range_is_an_error(field: str, value: int):
    assert SweepConfig(**{field: value + 1})
    with pytest.raises(ValueError, match=rf"^sweep\.{field} is {value}; it must be at least {value + 1}$"):
        SweepConfig(**{field: value})


def test_trials_that_would_fill_the_memory_are_refused():
    with pytest.raises(ValueError, match=r"^sweep\.num_trials is 10001; it must be at most 10000$"):
        SweepConfig(num_trials=10_001)
