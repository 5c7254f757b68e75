"""Where the project's packages are (a checkout, or the folder of an installed wheel) and how its commands start."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds PACKAGES. Other processes must find them here, not in the folder in which they start."""
PACKAGES = ("infra", "jobs", "pipelines", "shan_model")
"""The packages of this project."""
COMMAND_VARIABLE = "SHAN_COMMAND"
"""Environment variable of a submitted job: the command with which a user submits it again."""


def program(command: str) -> str:
    """Returns how the user starts a command: `shan <command>`, or `python -m jobs.<command>`."""
    return f"shan {command}" if Path(sys.argv[0]).stem == "shan" else f"python -m jobs.{command}"


def command_line(command: str, arguments: Sequence[str]) -> str:
    """Returns what the user types to run this process again; for a submitted job, what submits it."""
    return os.environ.get(COMMAND_VARIABLE) or shlex.join([*program(command).split(), *arguments])
