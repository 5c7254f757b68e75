"""The application that a Ray Serve config file builds: its arguments, and what it refuses."""

from typing import Any

import pytest

from infra.errors import UserError
from pipelines.service.application import build


def test_the_arguments_are_those_of_the_command():
    service = {"host": "127.0.0.1", "image_sources": ["s3://b/photos/"]}
    assert build({"index": "s3://b/i", "pin": 3, "service": service, "tracking": {"uri": "http://mlflow:5000"}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"the arguments are \[\]; give index"),
        ({"index": "i", "prot": 1}, r"\['index', 'prot'\]; give index, and at most pin, service and tracking"),
        ({"index": "i", "service": {"prot": 1}}, "the arguments are invalid .*'prot'.*; correct them"),
        ({"index": "i", "service": {"k": 0}}, "the arguments are invalid"),
        ({"index": "i", "service": {"num_shares": 0}}, "service.num_shares is 0; it must be at least 1"),
    ],
)
def test_other_arguments_are_refused(arguments: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        build(arguments)
