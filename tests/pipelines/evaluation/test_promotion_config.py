"""Errors of the promotion settings name the field."""

import pytest

from pipelines.evaluation.promotion_config import PromoteConfig


@pytest.mark.parametrize("bad", [{"margin": -1}, {"max_drop": float("inf")}, {"confidence": 95}, {"confidence": 0.3}])
def test_a_bad_value_is_an_error_that_names_the_field(bad: dict[str, float]):
    with pytest.raises(ValueError, match=f"promote.{next(iter(bad))} is"):
        PromoteConfig(**bad)
