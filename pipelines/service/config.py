"""Settings of the search service."""

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from infra.paths import absolute

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EVERY_HOST = re.compile("(?!file:)[a-z][a-z0-9+.-]*:/+", re.IGNORECASE)
"""Prefix of the URIs of all hosts or buckets."""
_MOST, _LONGEST_S = 1_000_000, 86_400.0
"""Limits of numbers and of seconds, far beyond what a cluster or a client can use."""
_ROUTERS = frozenset({"host", "port", "max_body_mb", "max_k", "max_candidates", "follow_every_s"})
"""Fields that only the router and the follower read."""


@dataclass(frozen=True)
class ServiceConfig:
    """Where the search service listens, its processes and its limits."""

    host: str = "127.0.0.1"
    """Address to listen on: loopback or 0.0.0.0 on every node that has processes of the service, or an address of the
    head. Beyond loopback, clients need the token of the environment variable SHAN_SERVICE_TOKEN."""
    port: int = 8000
    """TCP port to listen on."""
    num_shares: int = 1
    """Number of shares, into which the index's partitions are divided. Each share has processes of its own, and every
    query is sent to all of them."""
    num_replicas: int = 1
    """Processes of each share. With two, a search continues while one of them restarts."""
    max_replicas: int = 0
    """Processes of each share under load: Ray Serve adds some while requests wait, and removes them after 10 minutes
    without. 0 keeps their number at `num_replicas`."""
    num_detectors: int = 1
    """Processes that detect the regions of query photos; 0 refuses photos. They exist only if the model carries its
    detector."""
    cpus: float = 1.0
    """Logical CPUs of a process of a share or of a detector. Torch and FAISS use the same number of threads."""
    gpus: float = 0.0
    """GPUs of such a process, or the fraction of one GPU that it shares. 0 computes on the CPU."""
    deadline_s: float = 10.0
    """Seconds after which a request fails with status 504. A slow share is left out before, and the response is marked
    as partial."""
    max_requests: int = 64
    """Requests in progress; further ones are refused with status 429."""
    max_body_mb: int = 20
    """Largest size of a request's body, in MB (10^6 bytes)."""
    max_k: int = 1000
    """Results of a search."""
    max_candidates: int = 5000
    """Items that a search may score exactly; it has no more results."""
    image_sources: tuple[str, ...] = ()
    """Prefixes, each with a / at its end, of photo URIs that the service may read for clients, such as
    `s3://bucket/photos/`. Empty: clients send photos as bytes."""
    follow_every_s: float = 30.0
    """Seconds between two checks for a new champion, and for a new state of the index."""

    def __post_init__(self) -> None:
        """Makes folders of `image_sources` absolute. Raises ValueError naming the field, its value and the constraint.

        Raises UserError for a path that cannot be.
        """
        for name in ("num_shares", "num_replicas", "max_requests", "max_body_mb", "max_k", "max_candidates"):
            if not 1 <= getattr(self, name) <= _MOST:
                raise ValueError(f"service.{name} is {getattr(self, name)}; it must be between 1 and {_MOST}")
        for name in ("max_replicas", "num_detectors"):
            if not 0 <= getattr(self, name) <= _MOST:
                raise ValueError(f"service.{name} is {getattr(self, name)}; it must be between 0 and {_MOST}")
        if 0 != self.max_replicas < self.num_replicas:
            raise ValueError(
                f"service.max_replicas is {self.max_replicas} and service.num_replicas is {self.num_replicas}; it must "
                "be at least that, or 0"
            )
        if not 0 < self.port < 65536:
            raise ValueError(f"service.port is {self.port}; it must be between 1 and 65535")
        for name, most in (("cpus", _MOST), ("deadline_s", _LONGEST_S), ("follow_every_s", _LONGEST_S)):
            if not 0 < getattr(self, name) <= most:
                raise ValueError(f"service.{name} is {getattr(self, name)}; it must be positive and at most {most:.0f}")
        if not 0 <= self.gpus < math.inf or (self.gpus > 1 and self.gpus % 1):
            raise ValueError(f"service.gpus is {self.gpus}; it must be 0, a fraction of one GPU, or a whole number")
        for prefix in self.image_sources:
            if not prefix.endswith("/"):
                raise ValueError(f"service.image_sources has {prefix}; end each prefix with /")
            if _EVERY_HOST.fullmatch(prefix):
                raise ValueError(f"service.image_sources has {prefix}; name the host or bucket that may be read")
        found = (absolute(prefix, "service.image_sources") for prefix in self.image_sources)
        object.__setattr__(self, "image_sources", tuple(at if at.endswith("/") else f"{at}/" for at in found))

    @property
    def device(self) -> str:
        """Torch device of the processes."""
        return "cuda" if self.gpus else "cpu"

    @property
    def proxy_location(self) -> str:
        """Nodes whose proxy listens (`serve.start`). An address of one node cannot be used on others.

        Ray Serve would start proxies there again and again.
        """
        return "EveryNode" if self.is_loopback or self.host in ("0.0.0.0", "::") else "HeadOnly"  # noqa: S104 - compared

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine can connect."""
        return self.host in LOOPBACK

    @property
    def gallery_settings(self) -> dict[str, Any]:
        """The fields that a gallery depends on; a change of one replaces the gallery."""
        return {name: value for name, value in asdict(self).items() if name not in _ROUTERS}

    @property
    def gallery_cpus(self) -> float:
        """Logical CPUs of all processes of one index under load."""
        replicas = max(self.num_replicas, self.max_replicas)
        return (self.num_shares * replicas + self.num_detectors) * self.cpus
