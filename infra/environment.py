"""What a run was made with, for its record: versions and machine, never variables, which hold credentials."""

import os
import platform
from importlib.metadata import distributions
from typing import Any


def environment() -> dict[str, Any]:
    """Python, platform, CPUs and the version of every installed package."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": dict(sorted((each.name, each.version) for each in distributions())),
    }
