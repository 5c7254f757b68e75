"""The number of inputs of the fuzz tests."""

import pytest

from tests.support.tally import INPUTS, REDUCTION, Inputs


@pytest.fixture(
    params=[pytest.param(True, id="few", marks=pytest.mark.unit), pytest.param(False, id="all", marks=pytest.mark.long)]
)
def inputs(request: pytest.FixtureRequest) -> Inputs:
    """Returns a function from a reader to the number of its inputs."""
    return lambda reader: INPUTS[reader] // (REDUCTION if request.param else 1)
