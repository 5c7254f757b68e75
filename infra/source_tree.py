"""Where the project's packages are (a checkout, or the folder of an installed wheel) and how its commands start."""

import sys
from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds PACKAGES. Other processes must find them here, not in the folder in which they start."""
PACKAGES = ("infra", "jobs", "pipelines", "shan_model")
"""The packages of this project."""


def program(command: str) -> str:
    """Returns how the user starts a command: `shan <command>`, or `python -m jobs.<command>`."""
    return f"shan {command}" if Path(sys.argv[0]).stem == "shan" else f"python -m jobs.{command}"
