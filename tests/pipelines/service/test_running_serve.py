"""What the Ray Serve that runs already must be like: its address, and which index it serves."""

from typing import Any

import pytest
from ray.serve.config import HTTPOptions

from infra.errors import UserError
from pipelines.service.config import ServiceConfig
from pipelines.service.running_serve import require_http_options, require_same_index


@pytest.mark.parametrize("fields", [{}, {"request_timeout_s": 25}])
def test_a_service_can_be_reached_under_its_own_options(fields: dict[str, Any]):
    found = HTTPOptions(host="192.0.2.1", port=8001, **fields)
    require_http_options(found, ServiceConfig(host="192.0.2.1", port=8001))
    with pytest.raises(UserError, match="port 8001 and keeps that"):
        require_http_options(found, ServiceConfig())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"host": "192.0.2.1"}, "service.host is 127.0.0.1 and .* with host 192.0.2.1 and port 8000 and keeps that"),
        ({"port": 8001}, "with host 127.0.0.1 and port 8001 and keeps that"),
        ({"root_path": "/a"}, "port 8000 and root_path /a and keeps that"),
        ({"request_timeout_s": 10}, "service.deadline_s is 10, but .* with request_timeout_s 10 and keeps that; lower"),
    ],
)
def test_other_options_are_refused(fields: dict[str, Any], message: str):
    found = HTTPOptions(**{"host": "127.0.0.1", "port": 8000} | fields)
    with pytest.raises(UserError, match=message):
        require_http_options(found, ServiceConfig())


def test_a_second_index_is_refused():
    require_same_index("s3://b/i", "s3://b/i")
    with pytest.raises(UserError, match="--index is s3://b/j, but a service of s3://b/i runs on this cluster"):
        require_same_index("s3://b/i", "s3://b/j")
    with pytest.raises(UserError, match="the application shan-search of this cluster does not respond; end that"):
        require_same_index(None, "s3://b/j")
