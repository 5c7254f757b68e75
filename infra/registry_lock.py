"""A lock on a registered model, built from the one atomic operation that every MLflow registry has.

Only one client can create a registered model of a given name. The name is a primary key of the registry's database, and
the holder's tags are written in the same transaction, so the lock works on SQLite and behind a server with any number
of workers. MLflow's delete is unconditional, so no process breaks the lock of a holder that it believes to be dead: a
process that waits too long fails with the holder's name and the command that frees the lock.
"""

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from infra.errors import UserError
from infra.outages import outage_as_warning
from infra.tracking import Tracking
from infra.tracking_errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEADLINE_S = 60.0
"""Seconds to wait for the lock. A holder needs a second or two."""
_POLL_S = 0.2
_TRANSIENT = {"RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "TEMPORARILY_UNAVAILABLE"}
"""The lock is held; it was released while the registry looked up its holder; the database is busy."""


@dataclass(frozen=True)
class HeldLock:
    """A lock that this process acquired."""

    client: "MlflowClient"
    model: str
    """Name of the registered model that represents the lock."""
    token: str
    """Random, of this acquisition."""

    def check(self) -> None:
        """Raises UserError if the lock was freed by hand. Call it right before the write that the lock protects."""
        if _tags(self.client, self.model).get("token") != self.token:
            raise UserError(
                f"the lock {self.model} was freed while this process held it, so no alias was moved; run the command "
                "again"
            )

    def release(self) -> None:
        """Releases the lock, unless it was freed by hand."""
        if _tags(self.client, self.model).get("token") == self.token:
            self.client.delete_registered_model(self.model)


def lock_name(name: str) -> str:
    """Returns the name of the registered model that represents the lock of model `name`."""
    return f"{name}.promotion-lock"


@contextmanager
def registry_lock(
    tracking: Tracking, name: str, free_command: str, deadline_s: float = DEADLINE_S
) -> Iterator[HeldLock]:
    """Holds the lock of registered model `name` for the body.

    Raises UserError, naming the holder and `free_command`, if the lock cannot be acquired within `deadline_s`. A lock
    that cannot be released is a warning with `free_command`, since what the body has done is done.
    """
    lock = HeldLock(tracking.client(), lock_name(name), secrets.token_hex(16))
    _acquire(lock, free_command, deadline_s)
    try:
        yield lock
    finally:
        with outage_as_warning(f"{lock.model} could not be released; `{free_command}` releases it"):
            lock.release()


def free_lock(tracking: Tracking, name: str) -> str | None:
    """Frees the lock of registered model `name`, whoever holds it. Returns the holder, or None if it was free."""
    client = tracking.client()
    tags = _tags(client, lock_name(name))
    if not tags:
        return None
    client.delete_registered_model(lock_name(name))
    return _holder(tags)


def _acquire(lock: HeldLock, free_command: str, deadline_s: float) -> None:
    from mlflow.exceptions import MlflowException

    tags = {
        "token": lock.token,
        "owner": f"process {os.getpid()} on {socket.gethostname()}",
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            lock.client.create_registered_model(lock.model, tags, "Exists while an alias moves; not a model.")
        except (MlflowException, TrackingError) as error:
            if error.error_code not in _TRANSIENT:
                raise
        else:
            return
        found = _tags(lock.client, lock.model)
        if found.get("token") == lock.token:  # created, but the response was lost and the client tried again
            return
        if time.monotonic() > deadline:
            raise UserError(
                f"{lock.model} is held by {_holder(found)}; if that process has ended, run `{free_command}`"
            )
        time.sleep(_POLL_S)


def _tags(client: "MlflowClient", model: str) -> dict[str, str]:
    """Returns the tags of the lock; empty if it is free."""
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_registered_model(model).tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def _holder(tags: dict[str, str]) -> str:
    return f"{tags.get('owner', 'an unknown process')} since {tags.get('since', 'an unknown time')}"
