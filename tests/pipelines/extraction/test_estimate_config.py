"""Errors of the settings of an estimate name the field."""

import pytest

from pipelines.extraction.estimate_config import EstimateConfig


@pytest.mark.parametrize(
    "bad",
    [
        {"num_nodes": -1},
        {"gpus_per_node": float("inf")},
        {"dollars_per_node_hour": float("nan")},
        {"cpus_per_node": 0.0},
    ],
)
def test_a_bad_value_is_an_error_that_names_the_field(bad: dict[str, float]):
    with pytest.raises(ValueError, match=f"estimate.{next(iter(bad))} is"):
        EstimateConfig(**bad)  # type: ignore[arg-type]
