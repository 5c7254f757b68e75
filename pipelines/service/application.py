"""Builds the service from a Ray Serve config file, such as the one in infra/deploy/kuberay/rayservice.yaml.

The arguments are those of `jobs.serve`: `index`, `pin`, and fields of its sections `service` and `tracking`.
"""

from dataclasses import fields
from typing import Any, TypeVar

from infra.errors import UserError
from infra.tracking import TrackingConfig
from pipelines.service.config import ServiceConfig

Config = TypeVar("Config")


def build(arguments: dict[str, Any]) -> Any:
    """Returns the Ray Serve application. Raises UserError for an unknown or invalid argument."""
    from pipelines.service.deployments import service_application

    given = dict(arguments)
    index, pin = given.pop("index", None), given.pop("pin", None)
    service, tracking = given.pop("service", {}), given.pop("tracking", {})
    if not isinstance(index, str) or given:
        raise UserError(f"the arguments are {sorted(arguments)}; give index, and at most pin, service and tracking")
    if pin is not None and (not isinstance(pin, int) or isinstance(pin, bool)):
        raise UserError(f"pin is {pin!r}; it must be the number of a version")
    config = _section("service", ServiceConfig, service)
    return service_application(index, pin, config, _section("tracking", TrackingConfig, tracking))


def _section(name: str, kind: type[Config], given: Any) -> Config:
    """Returns the dataclass of a section. Raises UserError naming the field, its value and the constraint."""
    from pydantic import TypeAdapter, ValidationError

    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(given, dict):
        raise UserError(f"{name} is {given!r}; it must have fields such as {known[0]}, or be omitted")
    for field, value in given.items():
        if field not in known:
            raise UserError(f"{name}.{field} is not a field; the fields are {', '.join(known)}")
        if isinstance(value, bool):
            raise UserError(f"{name}.{field} is {value}; it must be a number or text")
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        found = error.errors()[0]
        if not found["loc"]:  # of __post_init__
            raise UserError(found["msg"].removeprefix("Value error, ")) from error
        field, problem = ".".join(map(str, found["loc"])), found["msg"].removeprefix("Input should be ")
        raise UserError(f"{name}.{field} is {found['input']!r}; it must be {problem}") from error
