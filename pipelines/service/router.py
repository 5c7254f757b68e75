"""The router: takes HTTP requests and sends each to the gallery that is current.

It holds no model and no index, so it starts in a second or two, and a restart loses only the requests in progress.
"""

import os
import re
from typing import Any

from infra.errors import UserError
from pipelines.service.config import LOOPBACK, ServiceConfig
from pipelines.service.http_api import build_api
from pipelines.service.running_serve import listening_host
from pipelines.service.served import Served

TOKEN = "SHAN_SERVICE_TOKEN"  # noqa: S105 - the name of the variable
"""Environment variable with the bearer token of clients."""


class Router:
    """The Ray Serve deployment; `serve.ingress` makes it the one that takes HTTP requests."""

    def __init__(self, config: ServiceConfig, follower: Any) -> None:
        """Raises UserError if the service, or Ray Serve by its own options, listens beyond loopback without a token."""
        self._token = os.environ.get(TOKEN, "")
        require_token(config.host, self._token)
        require_token(listening_host(), self._token, "host in http_options of Ray Serve")
        self._served = Served(config, follower)

    def __serve_build_asgi_app__(self) -> Any:
        """Returns the HTTP application; Ray Serve calls this after the constructor."""
        return build_api(self._served, self._token)


def require_token(host: str | None, token: str, setting: str = "service.host") -> None:
    """Raises UserError for a token that no client can send, and if other machines could use the service without one.

    `host` is the value of `setting`.
    """
    if token and not re.fullmatch("[!-~]+", token):
        raise UserError(
            f"the environment variable {TOKEN} has a blank, a line break or a character outside ASCII, which clients "
            "cannot send in a header; set it to printable ASCII, such as the output of `openssl rand -hex 32`"
        )
    if host not in LOOPBACK and not token:
        raise UserError(
            f"{setting} is {host}, which other machines can reach, and the environment variable {TOKEN} is "
            "not set; set it to a long random text on every node, or listen on 127.0.0.1"
        )
