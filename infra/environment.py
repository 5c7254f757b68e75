"""The software and hardware of a run, for its record. Environment variables are left out: they hold credentials."""

import os
import platform
from importlib.metadata import distributions
from typing import Any


def environment() -> dict[str, Any]:
    """Returns the versions of Python and of every installed package, the platform and the number of CPUs."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": dict(sorted((each.name, each.version) for each in distributions())),
    }
