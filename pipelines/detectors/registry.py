"""Resolves a detector's name to its spec: a built-in detector, or a plugin given by its import path.

Imports nothing heavy: drivers plan with specs, workers load detectors.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Mapping
from typing import Any

from infra.errors import UserError
from pipelines.detectors.contract import DetectorSpec

_SPECS = {
    "embedded": ".embedded_config:EmbeddedConfig",
    "bottom_up": ".bottom_up.config:BottomUpConfig",
    "huggingface": ".huggingface.config:QueriesConfig",
    "huggingface_patches": ".huggingface.config:PatchesConfig",
}
"""Import paths, relative to this package: a registered model carries a copy of it under another name."""
_MEMBERS = ("feature_dim", "region_range", "class_names", "fingerprint", "build")


def names() -> list[str]:
    """Returns the names of the built-in detectors."""
    return sorted(_SPECS)


def is_plugin(name: str) -> bool:
    """Returns whether `name` is an import path, `package.module:Class`."""
    return ":" in name


def spec_module(name: str) -> str:
    """Returns the module that defines the spec of a built-in detector or of a plugin."""
    return importlib.util.resolve_name(_SPECS.get(name, name).partition(":")[0], __package__)


def resolve(name: str, settings: Mapping[str, Any] | None = None) -> DetectorSpec:
    """Returns the spec of a built-in detector or of a plugin, constructed with `settings` as keyword arguments.

    Raises UserError if the detector is unknown, cannot be imported, rejects the settings, or does not implement
    `DetectorSpec`.
    """
    path = name if is_plugin(name) else _SPECS.get(name)
    if path is None:
        raise UserError(f"extract.detector is {name!r}; give one of {', '.join(names())}, or package.module:Class")
    module, _, attribute = path.partition(":")
    try:
        spec_class = getattr(importlib.import_module(module, __package__), attribute)
    except Exception as error:
        raise UserError(
            f"detector {name}: it cannot be imported ({error}); put its package on the workers' PYTHONPATH"
        ) from error
    if not callable(spec_class):
        raise UserError(f"detector {name}: it is a {type(spec_class).__name__}, not a class; give package.module:Class")
    settings = settings or {}
    _check_names(name, spec_class, settings)
    try:
        spec = spec_class(**settings)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"detector {name}: invalid settings ({error}); correct extract.detector_settings") from error
    _check(name, spec)
    return spec


def fingerprint(name: str, spec: DetectorSpec) -> str:
    """Returns the spec's fingerprint; raises UserError unless it is a valid file name and the same on each call."""
    try:
        value = spec.fingerprint()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"detector {name}: fingerprint() raises {type(error).__name__}: {error}; fix it") from error
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", value) or value != spec.fingerprint():
        raise UserError(
            f"detector {name}: fingerprint() must return the same file name on each call; use contract.fingerprint_of"
        )
    return value


def _check_names(name: str, spec_class: Any, settings: Mapping[str, Any]) -> None:
    """Raises UserError for a setting that the constructor of a spec does not have, and for a missing one."""
    try:
        parameters = inspect.signature(spec_class).parameters
    except (TypeError, ValueError):  # not a class, or one of C
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for setting in settings:
        if setting not in parameters:
            known = ", ".join(parameters) or "none"
            raise UserError(f"extract.detector_settings: detector {name} has no setting '{setting}'; it has {known}")
    for setting, parameter in parameters.items():
        if parameter.default is parameter.empty and setting not in settings:
            raise UserError(f"extract.detector_settings: detector {name} needs the setting '{setting}'; give it")


def _check(name: str, spec: Any) -> None:
    """Raises UserError if the members of a spec, which need no loaded detector, are missing or not valid."""
    missing = [member for member in _MEMBERS if not hasattr(spec, member)]
    if missing:
        raise UserError(f"detector {name}: it lacks {', '.join(missing)}; see pipelines.detectors.contract")
    try:
        low, high = spec.region_range
        valid = 1 <= low <= high and spec.feature_dim >= 1 and _are_class_names(spec.class_names)
    except UserError:
        raise
    except Exception:  # noqa: BLE001 - the members of a plugin may raise anything
        valid = False
    if not valid:
        raise UserError(
            f"detector {name}: region_range must be (minimum, maximum) with 1 <= minimum <= maximum, "
            "feature_dim at least 1, and class_names a mapping of integers to strings; see pipelines.detectors.contract"
        )


def _are_class_names(names: Any) -> bool:
    return all(isinstance(id_, int) and isinstance(name, str) for id_, name in dict(names).items())
