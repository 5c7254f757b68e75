"""What a router serves: the gallery that is current, and calls of its processes."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pipelines.service.calls import lost_process, retried
from pipelines.service.config import ServiceConfig
from pipelines.service.errors import ServiceError
from pipelines.service.events import service_event
from pipelines.service.generation import DETECTOR, SHARE, current_gallery
from pipelines.service.health import Health
from pipelines.service.metrics import Metrics
from pipelines.service.running_serve import application_details

AVOID_S = 20.0
"""Seconds for which a share that did not respond in time, or was lost, is left alone, if others can do the same."""
ALSO_S = 1.0
"""Seconds in which other shares may respond once one has a photo: several data sets may have its key."""
EVERY_S = 1.0
"""Seconds between two checks which gallery is current."""


@dataclass
class ServedGallery:
    """A gallery that is served: its application, and handles of its deployments."""

    application: str
    about: dict[str, Any]
    """What its shares describe: index, model, items, splits and number of shares."""
    names: dict[str, str]
    """Names of the model and the index for responses, without the folders in which they are stored."""
    shares: list[Any]
    detector: Any = None
    _next: int = 0
    _avoided: dict[int, float] = field(default_factory=dict)
    """Shares that did not respond, and until when another one is called where any can be."""

    async def call(self, method: str, *arguments: Any, end: float) -> Any:
        """Calls a method of any share; of another one, or of the restarted one, if its process ends meanwhile.

        `end` is the deadline of the request in the time of the event loop.
        """

        async def call_next() -> Any:
            number = self._choose()
            try:
                return await _call(self.shares[number], method, *arguments)
            except (asyncio.CancelledError, Exception) as error:
                is_late = isinstance(error, asyncio.CancelledError) and asyncio.get_running_loop().time() >= end
                if is_late or lost_process(error):  # cancelled before the deadline: by a client that left
                    self._avoided[number] = time.monotonic() + AVOID_S
                raise

        return await retried(call_next)

    def _choose(self) -> int:
        """Returns the next share in turn among those that respond."""
        now, everyone = time.monotonic(), range(len(self.shares))
        able = [number for number in everyone if self._avoided.get(number, 0) < now] or list(everyone)
        self._next += 1
        return able[self._next % len(able)]

    async def holders(self, method: str, *arguments: Any, is_unique: bool) -> list[Any]:
        """Calls a method of every share. Returns the responses but None; of what `is_unique`, without the other shares.

        Once one has responded, the others have ALSO_S. Raises the error of a lost process only if no other share has a
        response.
        """
        calls = [asyncio.ensure_future(retried(partial(_call, share, method, *arguments))) for share in self.shares]
        found, lost, pending = list[Any](), None, set(calls)
        until = math.inf
        try:
            while pending and not (found and is_unique):
                left = None if until == math.inf else until - time.monotonic()
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for call in done:
                    error = call.exception()
                    if error is None:
                        found += [] if call.result() is None else [call.result()]
                    elif lost_process(error):
                        lost = error
                    else:
                        raise error
                until = min(until, time.monotonic() + ALSO_S) if found else until
        finally:
            for call in calls:
                call.cancel()
        if lost is not None and not found:
            raise lost
        return found

    def require(self, name: str) -> None:
        """Raises ServiceError if the index does not have the photos or captions that a request needs."""
        if name not in self.about["items"]:
            others = " and ".join(self.about["items"])
            raise ServiceError(422, f"the index has no {name}, only {others}; search these")

    async def detect(self, image: bytes | str) -> Any:
        """Returns the regions of a photo. Raises ServiceError without a detector."""
        if self.detector is None:
            raise ServiceError(422, "the model is served without a detector; search by sentence", "image")
        return await retried(partial(_call, self.detector, "detect", image))


def lost_shares(deployments: Mapping[str, Any]) -> list[int]:
    """Returns the numbers of the shares without a running process, given Ray Serve's details of each deployment."""
    return [
        int(name.rpartition("-")[2])
        for name, found in deployments.items()
        if name.startswith(SHARE) and all(replica["state"] != "RUNNING" for replica in found["replicas"])
    ]


async def _call(handle: Any, method: str, *arguments: Any) -> Any:
    return await getattr(handle, method).remote(*arguments)


class Served:
    """Follows the applications of Ray Serve, and knows the gallery to send queries to."""

    def __init__(self, config: ServiceConfig, follower: Any) -> None:
        """`follower` is the handle of the deployment."""
        self.config, self.metrics = config, Metrics(config.deadline_s)
        self.following: dict[str, Any] = {"champion": "", "problem": ""}
        self._follower = follower
        self._gallery: ServedGallery | None = None
        self.health = Health()

    @property
    def gallery(self) -> ServedGallery:
        """The gallery to send queries to. Raises ServiceError while none is running."""
        if self._gallery is None:
            raise ServiceError(503, "no index is served yet; try again", retry_after_s=5)
        return self._gallery

    def record_search(self, gallery: str, candidates: int, is_partial: bool, stages: Mapping[str, float]) -> None:
        """Takes note of the result of a search, for metrics and the health check."""
        self.metrics.searched(gallery, candidates, is_partial, stages)
        self.health.succeeded(is_partial)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follows the applications of Ray Serve during the body, and has looked once before.

        Ray Serve sends requests to a restarted router once the body runs.
        """
        await self._attempt(self._refresh_gallery)
        task = asyncio.get_running_loop().create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self) -> None:
        while True:
            for refresh in (self._refresh_gallery, self._refresh_following):
                await self._attempt(refresh)
            await asyncio.sleep(EVERY_S)

    async def _attempt(self, refresh: Callable[[], Awaitable[None]]) -> None:
        try:
            await refresh()
        except Exception as error:  # noqa: BLE001 - Serve's controller or a process may be restarting
            self.metrics.problem(type(error).__name__)
            service_event("watch_failed", f"{type(error).__name__}: {error}", logging.WARNING)

    async def _refresh_gallery(self) -> None:
        from ray import serve

        applications = await asyncio.to_thread(application_details)
        states = {name: found["status"] for name, found in applications.items()}
        present = self._gallery.application if self._gallery else ""
        current = current_gallery(states, present)
        if not current:
            return
        deployments = applications[current]["deployments"]
        if current == present:
            self.health.lost = lost_shares(deployments)
            return
        handles = {name: serve.get_deployment_handle(name, current) for name in deployments}
        about = await asyncio.wait_for(handles[f"{SHARE}-0"].describe.remote(), self.config.deadline_s)
        shares = [handles[f"{SHARE}-{number}"] for number in range(about["shares"])]
        self._gallery = ServedGallery(current, about, about.pop("names"), shares, handles.get(DETECTOR))
        self.health = Health()
        self.health.shares = len(shares)
        self.metrics.serving(about)
        service_event("serving", f"{about['index']} by {current}", application=current, index=about["index"])

    async def _refresh_following(self) -> None:
        self.following = await asyncio.wait_for(self._follower.state.remote(), self.config.deadline_s)
        served = self._gallery.about["model"] if self._gallery else ""
        self.metrics.following(self.following["champion"], served)
