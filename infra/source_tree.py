"""Where the project's packages are: in a checkout, or in the folder that a wheel was installed to."""

from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds PACKAGES. Other processes must find them here, not in the folder in which they start."""
PACKAGES = ("infra", "jobs", "pipelines", "shan_model")
"""The packages of this project."""
