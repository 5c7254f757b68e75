"""A lock out of what every MLflow registry has: a registered model of a fixed name, which only one client can create.

The name is a primary key of the registry's database, and the holder's tags are written by the same transaction, so it
holds on SQLite and behind a server of any number of workers. Deleting has no condition, so nobody takes a lock away by
guessing that its holder is dead: who waits too long is told who holds it and what frees it.
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
from infra.tracking import Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE_S = 60.0
"""What is done under the lock takes a second or two."""
_POLL_S = 0.2
_PASSING = {"RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "TEMPORARILY_UNAVAILABLE"}
"""Held; given back while the registry looked who holds it; a database that is busy."""


@dataclass(frozen=True)
class HeldLock:
    """A lock that this process took."""

    client: "MlflowClient"
    model: str
    """The registered model that is the lock."""
    token: str
    """Of this taking alone."""

    def check(self) -> None:
        """UserError if the lock was freed by hand meanwhile: the last look before what it protects."""
        if _tags(self.client, self.model).get("token") != self.token:
            raise UserError(f"the lock {self.model} was freed while it was held, so no alias was moved; run this again")

    def release(self) -> None:
        """Gives it back, unless somebody freed it by hand."""
        if _tags(self.client, self.model).get("token") == self.token:
            self.client.delete_registered_model(self.model)


def lock_name(name: str) -> str:
    """The registered model that is the lock of a name."""
    return f"{name}.promotion-lock"


@contextmanager
def registry_lock(tracking: Tracking, name: str, free: str, patience_s: float = PATIENCE_S) -> Iterator[HeldLock]:
    """Holds the lock of a registered model for the body. UserError, naming holder and the command `free`, if it cannot
    be had in `patience_s`.
    """
    lock = HeldLock(tracking.client(), lock_name(name), secrets.token_hex(16))
    _take(lock, free, patience_s)
    try:
        yield lock
    finally:
        lock.release()


def free_lock(tracking: Tracking, name: str) -> str | None:
    """Frees the lock of a registered model whoever holds it; who held it, or None if nobody did."""
    client = tracking.client()
    tags = _tags(client, lock_name(name))
    if not tags:
        return None
    client.delete_registered_model(lock_name(name))
    return _holder(tags)


def _take(lock: HeldLock, free: str, patience_s: float) -> None:
    from mlflow.exceptions import MlflowException

    tags = {
        "token": lock.token,
        "owner": f"process {os.getpid()} on {socket.gethostname()}",
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            lock.client.create_registered_model(lock.model, tags, "Held while an alias moves; not a model.")
        except MlflowException as error:
            if error.error_code not in _PASSING:
                raise
        else:
            return
        found = _tags(lock.client, lock.model)
        if found.get("token") == lock.token:  # created, but the answer was lost and the client tried again
            return
        if time.monotonic() > give_up_at:
            raise UserError(f"{lock.model} is held by {_holder(found)}; if that process is gone, run `{free}`")
        time.sleep(_POLL_S)


def _tags(client: "MlflowClient", model: str) -> dict[str, str]:
    """Tags of the lock, empty if nobody holds it."""
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_registered_model(model).tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def _holder(tags: dict[str, str]) -> str:
    return f"{tags.get('owner', 'somebody')} since {tags.get('since', 'no known time')}"
