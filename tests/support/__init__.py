"""What the tests share: servers, clusters, oracles, builders of data."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""
