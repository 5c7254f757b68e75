"""Checksums of photos that a rerun had to read again because their version token or source had changed.

They are stored, so that the next rerun does not read these photos once more.
"""

from collections.abc import Mapping

from infra.canonical_json import canonical_json, load_object
from infra.storage.base import Store
from pipelines.features.layout import REHASHED

Rehashed = Mapping[str, tuple[str, str, str]]
"""Photo key to source, version token and sha256."""


def read_rehashed(store: Store) -> dict[str, tuple[str, str, str]]:
    """Returns the stored checksums; empty if there are none, or if they are corrupt (the photos are read again)."""
    try:
        document = load_object(store.read(REHASHED))
        return {key: (source, token, sha) for key, (source, token, sha) in document.items()}
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def add_rehashed(store: Store, found: Rehashed) -> None:
    """Adds checksums to the stored ones."""
    if found:
        store.replace(REHASHED, canonical_json({**read_rehashed(store), **found}))
