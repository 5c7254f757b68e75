"""The router's start: it needs a token wherever Ray Serve listens beyond loopback, whatever its own setting is."""

import socket
from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.service.application import build
from pipelines.service.router import require_token
from tests.support.processes import wait_until


def test_a_token_is_needed_beyond_loopback():
    for host in ("127.0.0.1", "localhost", "::1"):
        require_token(host, "")
    for host in ("0.0.0.0", "::", "192.0.2.1", "", None):  # noqa: S104 - only compared
        require_token(host, "secret")
        with pytest.raises(UserError, match=f"service.host is {host}, which other machines can reach"):
            require_token(host, "")


@pytest.mark.long  # half a minute for Ray Serve to start and to end
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("service", [{}, {"host": "127.0.0.1"}])
def test_a_config_file_without_the_host_needs_a_token(tmp_path: Path, service: dict[str, str]):
    from ray import serve

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    serve.start(http_options={"host": "0.0.0.0", "port": port})  # noqa: S104 - as in rayservice.yaml
    try:
        application = build({"index": str(tmp_path), "service": service})
        serve.run_many([serve.RunTarget(application, "a", "/")], wait_for_applications_running=False)

        def messages() -> str:
            found = serve.status().applications["a"]
            return "".join([found.message, *(each.message for each in found.deployments.values())])

        expected = "host in http_options of Ray Serve is 0.0.0.0, which other machines can reach, and the environment"
        wait_until(lambda: expected in " ".join(messages().split()), 60)
    finally:
        serve.shutdown()
