"""The software and hardware of a run. Environment variables are left out: they hold credentials."""

import os
import platform
from importlib.metadata import distributions
from typing import Any


def available_cpus() -> int:
    """Returns the number of CPUs that this process may use; where there is no CPU affinity (macOS), all of them."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """Returns the versions of Python and of every installed package, the platform and the number of CPUs."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": dict(sorted((each.name, each.version) for each in distributions())),
    }
