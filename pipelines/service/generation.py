"""Generations of the gallery: an index with its model, served by a Ray Serve application of its own.

The applications are the only record of what is served: their names are numbered, and the router sends queries to the
one with the highest number that is running. A new generation therefore replaces an earlier one without a message to
anybody, and processes that restart find it by the same rule.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256

from infra.canonical_json import canonical_json

SERVICE = "shan-search"
"""The application of the router and the follower."""
FOLLOWER, ROUTER = "follower", "router"
"""Names of its deployments."""
FOLDERS = "shan-service-"
"""Prefix of the temporary folders of the service's processes."""
SHARE, DETECTOR = "share", "detector"
"""Names of deployments of a gallery; those of shares are numbered."""
_NAME = re.compile(r"shan-gallery-(\d{6,})-([0-9a-f]{8})-([0-9a-f]{12})")
_USABLE = ("RUNNING", "UNHEALTHY", "DEPLOYING")
"""States of an application in which it may respond, the best first."""


@dataclass(frozen=True)
class Generation:
    """A state of an index, the model that encoded it, and the settings of the processes that serve them."""

    index: str
    """`<uri>@<12 hex>`."""
    model: str
    """URI of the model."""
    settings: str = ""
    """Text with all settings of the processes (`gallery_settings`)."""

    @property
    def identity(self) -> str:
        """12 hex digits of what is served, and how."""
        return sha256(canonical_json(asdict(self))).hexdigest()[:12]

    @property
    def index_identity(self) -> str:
        """8 hex digits of the URI of the index, the same for all its states."""
        return sha256(self.index.rpartition("@")[0].encode()).hexdigest()[:8]


def application_name(number: int, generation: Generation) -> str:
    """Returns the name of the application of a generation."""
    return f"shan-gallery-{number:06d}-{generation.index_identity}-{generation.identity}"


def gallery_number(application: str) -> int | None:
    """Returns the number of a gallery's application, or None for another application."""
    found = _NAME.fullmatch(application)
    return int(found[1]) if found else None


def serves(application: str, generation: Generation) -> bool:
    """Returns whether an application is that of a generation."""
    found = _NAME.fullmatch(application)
    return found is not None and found[3] == generation.identity


def serves_index(application: str, generation: Generation) -> bool:
    """Returns whether an application is of the same index as a generation, maybe in another state."""
    found = _NAME.fullmatch(application)
    return found is not None and found[2] == generation.index_identity


def galleries(states: Mapping[str, str]) -> list[str]:
    """Returns the applications that are galleries, the newest first, given every application's state."""
    return sorted((name for name in states if gallery_number(name) is not None), key=gallery_number, reverse=True)  # type: ignore[arg-type]


def current_gallery(states: Mapping[str, str], present: str = "") -> str:
    """Returns the application to send queries to: the newest that is running; "" without one that may respond.

    `present` is the one in use. It stays until a newer one is running, also while its processes restart.
    """
    newest = galleries(states)
    for state in _USABLE:
        for name in newest:
            if states[name] == state and (state == "RUNNING" or present not in newest):
                return name
    return present if present in newest else ""
