"""The Ray Serve that a cluster runs already, whose address cannot be changed and which has one search service only."""

from typing import TYPE_CHECKING, Any

from infra.errors import UserError
from pipelines.service.config import ServiceConfig
from pipelines.service.generation import FOLLOWER, SERVICE

if TYPE_CHECKING:
    from ray.serve.config import HTTPOptions

RESPONSE_S = 10.0
"""Seconds in which the follower of a running service must respond."""
_STOP = "end that service, or stop Ray Serve with `serve shutdown` on the head"


def require_usable_serve(config: ServiceConfig, index: str) -> bool:
    """Returns whether this cluster serves the index already; its driver may have been killed.

    Raises UserError if Ray Serve runs with other HTTP options, which it would keep, or serves another index: a second
    service would delete the galleries of the first.
    """
    from ray import serve
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return False
    require_http_options(client.http_config, config)
    found = serve.status().applications.get(SERVICE)
    if found is None or found.status.value in ("DELETING", "NOT_STARTED"):
        return False
    require_same_index(_served_index(), index)
    return True


def application_details() -> dict[str, Any]:
    """Returns Ray Serve's details of each application by name, in the schema of its REST API (ServeInstanceDetails).

    `serve.status()` builds the configuration of every deployment from the same details, which takes 50 times the CPU
    time (150 ms for five deployments) of a process that should search.
    """
    from ray.serve.context import _get_global_client

    applications: dict[str, Any] = _get_global_client().get_serve_details()["applications"]
    return applications


def listening_host() -> str | None:
    """Returns the address on which Ray Serve listens, which a Serve config file states apart from `service.host`."""
    from ray.serve.context import _get_global_client

    host: str | None = _get_global_client().http_config.host
    return host


def require_http_options(found: "HTTPOptions", config: ServiceConfig) -> None:
    """Raises UserError if a service with this config cannot be reached at its URL under these options of Ray Serve."""
    if (found.host, found.port, found.root_path, found.ssl_certfile) != (config.host, config.port, "", None):
        others = [f"root_path {found.root_path}"] if found.root_path else []
        others += ["TLS"] if found.ssl_certfile else []
        shown = " and ".join([f"host {found.host}", f"port {found.port}", *others])
        raise UserError(
            f"service.host is {config.host} and service.port is {config.port}, but Ray Serve runs on this cluster with "
            f"{shown} and keeps that; use these, or stop it with `serve shutdown` on the head"
        )
    if found.request_timeout_s is not None and found.request_timeout_s <= config.deadline_s:
        raise UserError(
            f"service.deadline_s is {config.deadline_s:g}, but Ray Serve runs on this cluster with request_timeout_s "
            f"{found.request_timeout_s:g} and keeps that; lower it, or stop Ray Serve with `serve shutdown` on the head"
        )


def require_same_index(served: str | None, index: str) -> None:
    """Raises UserError if the running service is that of another index, or does not state which (None)."""
    if served is None:
        raise UserError(f"the application {SERVICE} of this cluster does not respond; {_STOP}")
    if served != index:
        raise UserError(
            f"--index is {index}, but a service of {served} runs on this cluster, which has one at a time; {_STOP}"
        )


def _served_index() -> str | None:
    """Returns the index that the running service was given; None if its follower does not respond."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    try:
        follower: Any = serve.get_deployment_handle(FOLLOWER, SERVICE)
        return str(follower.state.remote().result(timeout_s=RESPONSE_S)["index"])
    except (TimeoutError, RayError, RayServeException, KeyError):
        return None
