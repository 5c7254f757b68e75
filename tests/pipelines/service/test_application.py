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
        ({"index": "i", "pin": "3"}, "pin is '3'; it must be the number of a version"),
        ({"index": "i", "service": None}, "service is None; it must have fields such as host, or be omitted"),
        ({"index": "i", "tracking": ["uri"]}, r"tracking is \['uri'\]; it must have fields such as uri, or be omitted"),
        ({"index": "i", "service": {"prot": 1}}, "service.prot is not a field; the fields are host, port"),
        ({"index": "i", "service": {"num_shares": 1.5}}, "service.num_shares is 1.5; it must be a valid integer"),
        ({"index": "i", "service": {"num_shares": True}}, "service.num_shares is True; it must be a number or text"),
        ({"index": "i", "service": {"num_shares": None}}, "service.num_shares is None; it must be a valid integer"),
        ({"index": "i", "service": {"cpus": "many"}}, "service.cpus is 'many'; it must be a valid number"),
        ({"index": "i", "service": {"image_sources": "s3://b/"}}, "service.image_sources is 's3://b/'; it must be a "),
        ({"index": "i", "service": {"image_sources": [1]}}, "service.image_sources.0 is 1; it must be a valid string"),
        ({"index": "i", "tracking": {"uri": 5}}, "tracking.uri is 5; it must be a valid string"),
        ({"index": "i", "service": {"num_shares": 0}}, "service.num_shares is 0; it must be between 1 and 1000000"),
    ],
)
def test_other_arguments_are_refused(arguments: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message) as caught:
        build(arguments)
    assert "\n" not in str(caught.value)
