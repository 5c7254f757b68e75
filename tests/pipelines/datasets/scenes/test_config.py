"""Tests of the validation of the scene settings."""

import pytest

from pipelines.datasets.scenes.config import ScenesConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": 1}, "scenes.train is 1; it must be between 2"),
        ({"val": 0}, "scenes.val is 0; it must"),
        ({"test": 100_000}, "scenes.test is 100000; it must"),
        ({"seed": -1}, "scenes.seed is -1; it must be an integer of at least 0"),
        ({"minimal_pairs": 1.2}, "scenes.minimal_pairs is 1.2; it must be a fraction between 0 and 1"),
    ],
)
def test_an_invalid_setting_is_named_with_its_constraint(settings, message):
    with pytest.raises(ValueError, match=message):
        ScenesConfig(**settings)
