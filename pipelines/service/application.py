"""Builds the service from a Ray Serve config file, such as the one in infra/deploy/kuberay/rayservice.yaml.

The arguments are those of `jobs.serve`: `index`, `pin`, and fields of its sections `service` and `tracking`.
"""

from typing import Any

from infra.errors import UserError
from infra.tracking import TrackingConfig
from pipelines.service.config import ServiceConfig


def build(arguments: dict[str, Any]) -> Any:
    """Returns the Ray Serve application. Raises UserError for an unknown or invalid argument."""
    from pipelines.service.deployments import service_application

    given = dict(arguments)
    index, pin = given.pop("index", None), given.pop("pin", None)
    service: dict[str, Any] = given.pop("service", {})
    tracking: dict[str, Any] = given.pop("tracking", {})
    if not isinstance(index, str) or given:
        raise UserError(f"the arguments are {sorted(arguments)}; give index, and at most pin, service and tracking")
    try:
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in service.items()
        }
        return service_application(index, pin, ServiceConfig(**fields), TrackingConfig(**tracking))
    except (TypeError, ValueError) as error:
        raise UserError(f"the arguments are invalid ({error}); correct them") from error
