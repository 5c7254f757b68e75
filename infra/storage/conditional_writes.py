"""Checks at the start of work that a store has conditional writes, without which two jobs overwrite each other."""

import secrets
from contextlib import suppress

from infra.errors import UserError
from infra.storage.base import Store

_FIX = "use a store that supports them (such as AWS S3 or SeaweedFS), without a proxy that drops the header"


def require_conditional_writes(store: Store) -> None:
    """Puts an object into a bucket twice and deletes it. Folders are not checked: they depend on no server.

    Raises UserError if the store ignores or refuses the condition, and as every write if it cannot be written at all.
    A failure counts as a refusal if writes without the condition succeed and another conditional write fails: a store
    that was away may have returned meanwhile.
    """
    if store.uri.startswith("/"):
        return
    name, second = (f"conditional-write-{secrets.token_hex(8)}" for _ in range(2))
    try:
        if not _put(store, name):
            store.replace(name, b"probe")  # raises if the store refuses every write
            if not _put(store, second):
                raise UserError(f"{store.uri}: the store refuses conditional writes (`If-None-Match: *`); {_FIX}")
        if store.put_if_absent(name, b"probe"):
            raise UserError(f"{store.uri}: the store ignores the condition of writes (`If-None-Match: *`); {_FIX}")
    finally:
        with suppress(OSError, UserError):  # without permission to delete, the objects stay
            store.delete(name)
            store.delete(second)


def _put(store: Store, name: str) -> bool:
    """Returns whether the store took a conditional write.

    A proxy that drops the signed header gets an answer about the signature, and a policy may forbid the condition.
    """
    try:
        return store.put_if_absent(name, b"probe")
    except (OSError, UserError):
        return False
