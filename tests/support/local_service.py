"""The search service's HTTP interface over two shares and a detector in the test process, without Ray Serve."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import uvicorn

from infra.tracking import TrackingConfig
from pipelines.service.config import ServiceConfig
from pipelines.service.detector import PhotoDetector
from pipelines.service.generation import Generation
from pipelines.service.guard import Guard
from pipelines.service.http_api import build_api
from pipelines.service.served import Served, ServedGallery
from pipelines.service.share import Share
from tests.support.processes import wait_until

SHARES = 2


class _Handle:
    """Calls an object of this process as a handle of Ray Serve calls a deployment."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=getattr(self._target, method))


class _LocalShare(Share):
    """A share whose batches are of one query: only a replica of Ray Serve has others."""

    async def _encoded(self, sentence: Any) -> Any:
        return (await Share._encoded.__wrapped__(self, [sentence]))[0]

    async def _near(self, asked: Any) -> Any:
        return (await Share._near.__wrapped__(self, [asked]))[0]


@dataclass
class LocalService:
    """A running service; `guard` and `shares` may be changed by tests."""

    url: str
    served: Served
    guard: Guard
    shares: list[Share] = field(default_factory=list)

    async def serve(self, generation: Generation, tracking: TrackingConfig) -> None:
        """Replaces the gallery that is served."""
        self.shares = [_LocalShare(generation, number, SHARES, tracking, "cpu") for number in range(SHARES)]
        for share in self.shares:
            share.__dict__["_clients"] = dict(enumerate(self.shares))
        detector = PhotoDetector(generation, tracking, self.served.config)
        about = await self.shares[0].describe()
        handles = [_Handle(share) for share in self.shares]
        self.served._gallery = ServedGallery(generation.identity, about, about.pop("names"), handles, _Handle(detector))


@contextmanager
def local_service(config: ServiceConfig, token: str = "") -> Iterator[LocalService]:
    """Runs a service without a gallery."""
    served = Served(config, None)
    guard = build_api(served, token)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(guard, lifespan="off", log_level="warning"))
        thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
        thread.start()
        wait_until(lambda: server.started, 60)
        yield LocalService(f"http://127.0.0.1:{listening.getsockname()[1]}", served, guard)
        server.should_exit = True
        thread.join(30)
