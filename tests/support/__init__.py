"""Helpers of the tests: servers, clusters, commands, oracles and builders of data."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Folder of the checkout."""
