"""Detectors by name, or a user's own by import path. Imports nothing heavy: drivers plan, workers load."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

from infra.errors import UserError
from pipelines.detectors.contract import DetectorSpec

_SPECS = {
    "embedded": "pipelines.detectors.embedded_config:EmbeddedConfig",
    "bottom_up": "pipelines.detectors.bottom_up.config:BottomUpConfig",
}
_MEMBERS = ("feature_dim", "region_range", "class_names", "fingerprint", "build")


def names() -> list[str]:
    """List the detectors that come with the project."""
    return sorted(_SPECS)


def is_plugin(name: str) -> bool:
    """Whether `name` is an import path."""
    return ":" in name


def resolve(name: str, settings: Mapping[str, Any] | None = None) -> DetectorSpec:
    """The spec of a detector: one of `names()`, or `package.module:Class` with the members of `DetectorSpec`.

    `settings` are its keyword arguments. UserError if it is unknown, does not take them or is no DetectorSpec.
    """
    path = name if is_plugin(name) else _SPECS.get(name)
    if path is None:
        raise UserError(f"unknown detector {name!r}: choose one of {', '.join(names())}, or give package.module:Class")
    module, _, attribute = path.partition(":")
    try:
        spec_class = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise UserError(f"detector {name}: cannot be imported ({error}); put it on the workers' PYTHONPATH") from error
    try:
        spec = spec_class(**(settings or {}))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"detector {name}: its settings do not fit ({error}); see extract.detector_settings") from error
    _check(name, spec)
    return spec


def fingerprint(name: str, spec: DetectorSpec) -> str:
    """The spec's fingerprint; UserError unless it is the same file name each time it is asked."""
    try:
        told = spec.fingerprint()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"detector {name}: fingerprint() raises {type(error).__name__}: {error}; mend it") from error
    if not isinstance(told, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", told) or told != spec.fingerprint():
        raise UserError(f"detector {name}: fingerprint() must give the same file name each time; use fingerprint_of")
    return told


def _check(name: str, spec: Any) -> None:
    """What can be known of a spec without loading the detector."""
    missing = [member for member in _MEMBERS if not hasattr(spec, member)]
    if missing:
        raise UserError(f"detector {name}: it has no {', '.join(missing)}; see pipelines.detectors.contract")
    try:
        fewest, most = spec.region_range
        sound = 1 <= fewest <= most and spec.feature_dim >= 1 and _all_ids(spec.class_names)
    except UserError:
        raise
    except Exception:  # noqa: BLE001 - a stranger's members may raise anything
        sound = False
    if not sound:
        raise UserError(
            f"detector {name}: region_range must be (fewest, most) of at least 1, feature_dim at least 1 and "
            "class_names a mapping of whole numbers; see pipelines.detectors.contract"
        )


def _all_ids(names: Any) -> bool:
    return all(isinstance(id_, int) and isinstance(name, str) for id_, name in dict(names).items())
