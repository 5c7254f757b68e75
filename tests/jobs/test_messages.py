"""Errors of the command line name arguments as the help does."""

from typing import Any

import pytest

from infra.errors import UserError
from jobs import cli, options


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "FEATURES and --feature-format must be given; see `"),
        (["x", "--feature-format", "zip"], "--feature-format is 'zip'; give one of 'scan', 'tsv'; see `"),
        (["x", "--feature-format", "scan", "--format", "zip"], "--format is 'zip'; give one of 'karpathy', "),
        (["x", "--feature-format", "scan", "y"], "unrecognized arguments: y; see `"),
    ],
)
def test_invalid_own_arguments_are_named_as_in_the_help(argv: list[str], message: str):
    def add(parser: Any) -> None:
        options.add(parser, "features")
        options.add(parser, "--feature-format", required=True)
        options.add(parser, "--format")

    with pytest.raises(UserError) as caught:
        cli.parse("features import", "d", add, (), argv)
    assert str(caught.value).startswith(message)
