"""Follows the champion: deploys the gallery that should be served, and deletes those that it replaces.

A new gallery gets an application beside the present one. When it is running, the router sends queries to it, and the
earlier ones are deleted after the requests in progress have ended. If it does not start, the present one stays.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from pipelines.service.events import service_event
from pipelines.service.generation import (
    Generation,
    application_name,
    galleries,
    gallery_number,
    serves,
    serves_index,
)
from pipelines.service.wanted import Wanted

START_S = 600.0
"""Seconds in which a gallery must start."""
RETRY_S = 600.0
"""Seconds after which a gallery that did not start is tried again."""


LOOK_EVERY_S = 10.0
"""Seconds between two looks, while a gallery starts, whether it is still wanted, as after a rollback."""
_OUTDATED = "OUTDATED"
"""State of an application that is not wanted any more before it has started."""
_STARTED = ("RUNNING", "UNHEALTHY")
"""States of an application that has started. It is unhealthy while a process restarts."""


class Applications(Protocol):
    """The applications of Ray Serve."""

    def states(self) -> Mapping[str, tuple[str, str]]:
        """Returns the state and the message of every application by name."""

    def deploy(self, name: str, generation: Generation) -> None:
        """Starts the application of a gallery, without waiting until it runs."""

    def delete(self, name: str) -> None:
        """Stops an application, after its requests in progress."""


@dataclass
class Following:
    """Brings the applications to what should be served, one `step` at a time."""

    find: Callable[[], Wanted]
    applications: Applications
    drain_s: float
    """Seconds between the start of a gallery and the end of the earlier ones."""
    wait: Callable[[float], object] = time.sleep
    champion: str = ""
    problem: str = ""
    """Why the champion is not served."""
    failure: str = ""
    """Why the last step changed nothing, if it should have."""
    _failed: tuple[str, float, str] = ("", 0.0, "")
    """What did not start, until when it is not tried again, and the reason."""

    def step(self) -> None:
        """Finds what should be served and deploys it. An error is kept in `failure`, and the present gallery stays."""
        problem = ""
        try:
            found = self.find()
            if self.champion and not found.champion:
                self.problem = (
                    f"{self.champion} is not champion any more, and no other version is; the index that is served "
                    "stays; promote a version"
                )
                return
            self.champion, problem = found.champion, found.problem
            is_kept = bool(problem) and self._has_gallery_of_another(found.generation)
            self.failure = "" if is_kept else self._serve(found.generation)
        except Exception as error:  # noqa: BLE001 - a store or registry that fails must not end the service
            self.failure = f"cannot check for a new champion ({error_line(str(error))})"
        before, self.problem = self.problem, problem or self.failure
        if self.problem not in ("", before):
            service_event("problem", self.problem, logging.WARNING)

    def _has_gallery_of_another(self, generation: Generation) -> bool:
        """Returns whether the index that is served is not that of a generation, of whatever state."""
        states = self.applications.states()
        started = galleries({name: state for name, (state, _) in states.items() if state in _STARTED})
        return bool(started) and not serves_index(started[0], generation)

    def _serve(self, generation: Generation) -> str:
        """Deploys a gallery unless it is the newest one, and deletes the others when it runs. Returns the problem."""
        states = self.applications.states()
        newest = galleries({name: state for name, (state, _) in states.items() if state != "DELETING"})
        present = newest[0] if newest else ""
        if not present or not serves(present, generation):
            identity, until, reason = self._failed
            if identity == generation.identity and time.monotonic() < until:
                return reason
            present = application_name(max([0, *(gallery_number(name) or 0 for name in states)]) + 1, generation)
            service_event("gallery_deployed", f"{generation.index} as {present}", application=present)
            self.applications.deploy(present, generation)
        state, message = self._started(present, generation)
        if state == _OUTDATED:
            self.applications.delete(present)
            return ""
        if state not in _STARTED:
            reason = f"{generation.index} does not start ({error_line(message) or state})"
            self._failed = (generation.identity, time.monotonic() + RETRY_S, reason)
            self.applications.delete(present)
            return reason
        if earlier := [name for name in newest if name != present]:
            self.wait(self.drain_s)
            for name in earlier:
                service_event("gallery_deleted", f"{name}, replaced by {present}", application=name)
                self.applications.delete(name)
        return ""

    def _started(self, name: str, generation: Generation) -> tuple[str, str]:
        """Waits until an application runs or fails, or is outdated. Returns its state and message.

        It is outdated if another generation is wanted meanwhile. The first gallery is waited for in any case.
        """
        begin = looked = time.monotonic()
        while True:
            states = self.applications.states()
            state, message = states.get(name, ("DELETING", ""))
            is_first = len(galleries({each: found for each, (found, _) in states.items()})) == 1
            if state not in ("NOT_STARTED", "DEPLOYING") or time.monotonic() > begin + START_S:
                return state, message
            if not is_first and time.monotonic() > looked + LOOK_EVERY_S:
                looked = time.monotonic()
                with suppress(Exception):  # a store or registry that fails: the next step reports it
                    if self.find().generation != generation:
                        return _OUTDATED, ""
            self.wait(0.5)


class Follower:
    """The Ray Serve deployment."""

    def __init__(
        self, index: str, find: Callable[[], Wanted], applications: Applications, every_s: float, drain_s: float
    ) -> None:
        """`index` is the one that the service was given."""
        self._index, self._following, self._every_s = index, Following(find, applications, drain_s), every_s
        threading.Thread(target=self._follow, daemon=True).start()

    async def state(self) -> dict[str, Any]:
        """Returns the index that the service was given, the champion that should be served, and what prevents it."""
        found = self._following
        return {"index": self._index, "champion": found.champion, "problem": found.problem, "failure": found.failure}

    def _follow(self) -> None:
        while True:
            self._following.step()
            time.sleep(self._every_s)


def error_line(message: str) -> str:
    """Returns the end of a message, which may be a traceback: the error itself."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line for line in lines if "Error: " in line]
    last = (errors or lines or [""])[-1]
    return last.rpartition("UserError: ")[2][-500:]  # its message is the reason and the fix
